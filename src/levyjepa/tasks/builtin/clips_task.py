"""Clips whose scenes are known: digits, objects followed, and jumps in time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from warnings import catch_warnings

import numpy as np
import torch
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from levyjepa.data.masks import VOID
from levyjepa.inference import fit
from levyjepa.laws import Brownian, CompoundPoisson, LaplaceJumps
from levyjepa.tasks.builtin.filmstrip import draw_film, make_film, relative_steps
from levyjepa.tasks.builtin.segmentation_task import Dense, segmentation_probe
from levyjepa.tasks.context import Context, Features
from levyjepa.tasks.intervals import average_precision_interval, ratio_interval, resample
from levyjepa.tasks.registry import register_task
from levyjepa.tasks.score import Score
from levyjepa.tasks.tracking import (
    TrackedObject,
    Tracking,
    first_masks,
    is_cut,
    propagate,
    score,
    step_probability,
)

ROWS = 2  # of each clip's token rows, evenly spaced, that the probes are fitted to
SAMPLE = 5000  # scalar steps that the law is fitted to
COVERED = 1 / 8  # of a token's pixels
FILMS = 3, 1  # clips that are drawn, without and with a cut

# Of tokens or frames: whether they jumped, the size of their step, the clip of each; all (n,).
Detection = tuple[np.ndarray, np.ndarray, np.ndarray]

CAPTION = (
    "Test clips in which digits jump. Top: true digits outlined, followed ones tinted. "
    "Middle: how far each token moves since the previous frame, as a share of nearly the largest "
    "step of this encoder on all test clips. Rings mark where a digit truly teleports, appears or "
    "vanishes: only there should tokens light up. Bars: the largest step into each frame."
)
ABSENT = "Over frames in which the object is absent: 1 without a pixel of it, else 0."
QUESTIONS = {
    "objects": (
        "Jumps at objects",
        "Tokens on an object that teleports, appears or vanishes, against tokens on one that moves "
        "smoothly, by the size of a token's step in time.",
    ),
    "everywhere": (
        "Jumps anywhere",
        "All tokens, cuts included, by the size of a token's step in time.",
    ),
    "frames": (
        "Frames with a jump",
        "Whether anything jumps in a frame, by its largest step of a token.",
    ),
}


@dataclass(frozen=True)
class KnownClips:
    """N clips of a split with their tokens and all that is known of their pixels."""

    tokens: dict[str, Tensor]  # (N, t, h, w, C): "tokens", and "field" where there is one
    objects: Tensor  # (N, T, H, W) uint8: ids
    digits: Tensor  # (N, T, H, W) int64: 0 to 9, -1 elsewhere
    jumped: Tensor  # (N, T, H, W) bool: shows what jumped since the previous frame, or did there
    cut: Tensor  # (N, T) bool

    @property
    def frames_per_token(self) -> int:
        """How many frames a token covers."""
        return self.objects.shape[1] // self.tokens["tokens"].shape[1]


@register_task("clips", title="Clips with known scenes", needs=("scenes", "clips"), order=50)
def clips(context: Context) -> list[Score]:
    """Digits segmented and recognized, objects followed, and jumps in time detected."""
    train, test = known_clips(context.train), known_clips(context.test)
    draws = resample(len(test.objects), context.seed)
    plain, with_cuts, followed = _follow(train.tokens["tokens"], test, context.seed)
    scores = _probes(_dense(train), _dense(test)) + _tracking_scores("tracking", "", plain, draws)
    suffix = ", nothing propagated across cuts"
    scores += _tracking_scores("tracking_with_cuts", suffix, with_cuts, draws)
    for name in test.tokens:
        fitted, tested = (step_sizes(split, name) for split in (train, test))
        for question in QUESTIONS:
            scores += _detection_scores(name, question, fitted[question], tested[question], draws)
    if context.subject.name != "pixels":
        _draw(context, followed)
    return scores


def known_clips(split: Features) -> KnownClips:
    """Return the clips of a split whose scenes are kept.

    Raises:
        ValueError: Clips of fewer than three frames, scenes of another shape than the clips, or
            tokens whose grid does not divide them or has one row in time.
    """
    shape = (*split.images.shape[1:2], *split.images.shape[-2:])
    if any(tuple(scene.masks.shape) != shape for scene in split.scenes):
        raise ValueError(f"Scenes must have masks {shape}, as large as their clips.")
    grid = tuple(split.tokens.shape[1:4])
    if shape[0] < 3 or grid[0] < 2 or any(n % k for n, k in zip(shape, grid, strict=True)):
        raise ValueError(
            "Clips must have three frames or more, and tokens on a grid that divides them, two "
            f"rows in time or more; got clips {shape} and tokens {grid}."
        )
    tokens = {"tokens": split.tokens}
    if split.field is not None:
        tokens["field"] = split.field
    truths = zip(*map(_truth, split.scenes), strict=True)
    return KnownClips(tokens, *map(torch.stack, truths))


def _truth(scene: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Objects, digits, what jumped and the cuts of a `DigitClip`, as `KnownClips` holds them."""
    digits = torch.tensor([VOID, *(identity.digit for identity in scene.identities)])
    jumped = torch.zeros(scene.masks.shape, dtype=torch.bool)
    cut = torch.zeros(len(scene.masks), dtype=torch.bool)
    for event in scene.events:
        if event.kind == "cut":
            cut[event.frame] = jumped[event.frame] = True
        elif event.kind != "bounce":
            pixels = scene.masks[event.frame - 1 : event.frame + 1] == event.object
            jumped[event.frame] |= pixels.any(0)
    return scene.masks, digits[scene.masks.long()], jumped, cut


def step_sizes(clips: KnownClips, name: str) -> dict[str, Detection]:
    """Return the size of each token's step in time, and whether it jumped, for each question.

    The norm of a step ranks tokens as the probability of a jump under any isotropic law does.
    Between two rows a token jumped if at least an eighth of its pixels show, before or after, an
    object that teleported, appeared or vanished between the first frame of one row and the last of
    the other, or if the scene was cut there. Tokens that such an object covers by less are left
    out. Bounces are no jumps. "everywhere" takes all tokens, "objects" those that an object covers
    by an eighth, away from cuts, and "frames" the largest step of a row.
    """
    tokens, several = clips.tokens[name], clips.frames_per_token
    size, grid = tokens.diff(dim=1).norm(dim=-1), (tokens.shape[2], tokens.shape[3])

    def between(changed: Tensor) -> Tensor:  # (N, T, ...) to (N, t - 1, ...)
        return changed[:, 1:].unfold(1, 2 * several - 1, several).any(-1)

    jumped = between(clips.jumped)
    shown = (clips.objects > 0).unfold(1, 2 * several, several).any(-1)
    covered, objects = (adaptive_avg_pool2d(part.float(), grid) for part in (jumped, shown))
    truth = covered >= COVERED
    clear = truth | (covered == 0)
    at_objects = clear & (objects >= COVERED) & ~between(clips.cut)[..., None, None]
    every = torch.ones(size.shape[:2], dtype=torch.bool)
    questions = {
        "everywhere": (truth, size, clear),
        "objects": (truth, size, at_objects),
        "frames": (jumped.flatten(2).any(-1), size.amax((2, 3)), every),
    }
    return {
        question: (true[taken].numpy(), values[taken].numpy(), taken.nonzero()[:, 0].numpy())
        for question, (true, values, taken) in questions.items()
    }


def _detection_scores(
    name: str, question: str, train: Detection, test: Detection, draws: np.ndarray
) -> list[Score]:
    """Average precision, and F1 at the threshold that is best on the training clips."""
    truth, size, clip = test
    if not (train[0].any() and truth.any()):
        return []  # nothing jumps in the training clips or in the test clips
    precision, recall, thresholds = precision_recall_curve(*train[:2])
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    predicted = size >= thresholds[f1[:-1].argmax()]
    share, note = float(truth.mean()), QUESTIONS[question][1]
    scores = []
    for key, words, value, interval, chance in (
        (
            "average_precision",
            "average precision",
            average_precision_score(truth, size),
            average_precision_interval(truth, size, clip, draws),
            share,
        ),
        (
            "f1",
            "F1",
            f1_score(truth, predicted),
            ratio_interval(2.0 * (predicted & truth), 1.0 * predicted + truth, clip, draws),
            2 * share / (1 + share),
        ),
    ):
        headline = (name, question, key) == ("tokens", "objects", "average_precision")
        title = f"{QUESTIONS[question][0]}, {words}{', projected tokens' * (name == 'field')}"
        key, value, n = f"jumps/{name}/{question}/{key}", float(value), len(truth)
        scores.append(Score(key, value, interval, n, "%", chance, title, note, True, headline))
        note = "At the threshold that is best on the training clips."
    return scores


def _dense(clips: KnownClips) -> Dense:
    """A few rows of each clip's tokens, each with the digits of its first frame."""
    tokens = clips.tokens["tokens"]
    rows = tokens.shape[1]
    taken = torch.arange(min(ROWS, rows)) * rows // min(ROWS, rows)
    masks = clips.digits[:, taken * clips.frames_per_token]
    return tokens[:, taken].flatten(0, 1), masks.flatten(0, 1)


def _probes(train: Dense, test: Dense) -> list[Score]:
    """Digit or background; and which digit, on pixels of digits alone.

    In one probe, digits fill so few pixels that background everywhere would be best.
    """
    fitted, tested = ((tokens, (masks != VOID).long()) for tokens, masks in (train, test))
    objects = segmentation_probe(fitted, tested, 2)
    digits = segmentation_probe(train, test, 10)
    pixels = digits.pixels
    return [
        Score(
            "segmentation/miou",
            objects.miou,
            n=len(test[1]),
            chance=max(objects.pixels) / sum(objects.pixels) / 2,
            title="Digit or background, mean IoU",
            note="Class of a pixel, predicted linearly from its token.",
        ),
        Score(
            "digits/accuracy",
            digits.pixel_accuracy,
            n=sum(pixels),
            chance=max(pixels) / sum(pixels),
            title="Which digit, accuracy",
            note="Of pixels that show a digit, predicted linearly from the token.",
        ),
    ]


def _follow(
    train: Tensor, test: KnownClips, seed: int
) -> tuple[list[TrackedObject], list[TrackedObject], Tensor]:
    """Objects of the test clips, without and with the rule that nothing crosses a cut.

    Cuts are detected by a law fitted to the steps of the training clips' tokens. The masks
    (N, T, H, W) are those without the rule.
    """
    several, plain, with_cuts, followed = test.frames_per_token, [], [], []
    tokens = test.tokens["tokens"]
    steps = train.diff(dim=1).flatten()
    sample = torch.randint(len(steps), (SAMPLE,), generator=torch.Generator().manual_seed(seed))
    jump = tokens.new_zeros(*test.objects.shape[:2], *tokens.shape[2:4])
    try:
        with catch_warnings(action="ignore"):  # pixels that do not move hold exact zeros
            law = fit(steps[sample], Brownian(0.5) + CompoundPoisson(1.0, LaplaceJumps(1.0))).law
        jump[:, ::several] = step_probability(tokens, law)
    except ValueError:  # tokens never change
        jump = None
    for number, masks in enumerate(test.objects):
        repeated = tokens[number].repeat_interleave(several, 0)
        first = first_masks(masks)
        followed.append(propagate(repeated, first))
        objects = score(masks, followed[-1], str(number))
        plain += objects
        if jump is not None:
            if is_cut(jump[number]).any():
                masks_with_cuts = propagate(repeated, first, jump=jump[number])
                objects = score(masks, masks_with_cuts, str(number))
            with_cuts += objects
    return plain, with_cuts, torch.stack(followed)


def _tracking_scores(
    name: str, suffix: str, objects: list[TrackedObject], draws: np.ndarray
) -> list[Score]:
    if not objects:
        return []
    found, n = Tracking(objects), len(objects)
    clip = np.array([int(one.sequence) for one in objects])
    means = np.array([one.j_and_f for one in objects])
    values, visible = (
        np.concatenate([getattr(one, key) for one in objects]) for key in ("values", "visible")
    )
    frames = clip.repeat([len(one.visible) for one in objects])
    scores = []

    def add(
        key: str, title: str, value: float, n: int, interval: Any = None, note: str = ""
    ) -> None:
        headline = (name, key) == ("tracking", "visible")
        about: Any = {"title": title + suffix, "note": note, "headline": headline}
        scores.append(Score(f"{name}/{key}", value, interval, n, **about))

    for key, value, at, note in (
        ("visible", found.visible, visible, "Over frames in which the object is visible."),
        ("absent", found.absent, ~visible, ABSENT),
    ):
        if value is not None:
            interval = ratio_interval(values * at, at, frames, draws)
            add(key, f"J&F while {key}", value, int(at.sum()), interval, note)
    add("j_and_f", "J&F", found.j_and_f, n, ratio_interval(means, means**0, clip, draws))
    add("j_mean", "J", found.region.mean, n)
    add("f_mean", "F", found.contour.mean, n)
    return scores


def _draw(context: Context, followed: Tensor) -> None:
    test = context.test
    steps = relative_steps(test.tokens)
    for place, clip in enumerate(_films(test.scenes)):
        film = make_film(test.images[clip], steps[clip], test.scenes[clip], followed[clip])
        title, caption = ("", "") if place else ("Where tokens jump in time", CAPTION)
        context.picture(f"clip_{place + 1}", draw_film(film), title, caption, not place)


def _films(scenes: Sequence[Any]) -> list[int]:
    """Clips in which digits jump; the last has a cut.

    Those come first in which a digit is always visible and two jumps lie apart.
    """
    ordered: dict[bool, list[tuple[bool, int, int]]] = {False: [], True: []}
    for clip, scene in enumerate(scenes):
        kinds = [event.kind for event in scene.events]
        jumps = [event.frame for event in scene.events if event.kind not in ("bounce", "cut")]
        if jumps:
            apart = len(jumps) == 2 and jumps[1] - jumps[0] > 1
            good = apart and bool(scene.masks.flatten(1).any(1).all())
            ordered["cut" in kinds].append((not good, -len(jumps), clip))
    return [
        clip
        for cut, number in ((False, FILMS[0]), (True, FILMS[1]))
        for _, _, clip in sorted(ordered[cut])[:number]
    ]
