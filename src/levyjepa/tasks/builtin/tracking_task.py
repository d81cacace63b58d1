"""Objects followed through annotated video sequences."""

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from levyjepa.data.davis_layout import VideoSequence
from levyjepa.tasks.context import Context
from levyjepa.tasks.intervals import ratio_interval, resample
from levyjepa.tasks.panels import TEXT, WIDTH, channels_last, draw_objects, evenly
from levyjepa.tasks.registry import register_task
from levyjepa.tasks.score import Score
from levyjepa.tasks.tracking import (
    TrackedObject,
    Tracking,
    first_masks,
    protocol_size,
    score,
    track,
)

CACHE = 1e9  # bytes of decoded frames that are kept for the next subject
SEQUENCES, FRAMES = 3, 5  # in the picture


@register_task("tracking", title="Tracking", needs=("sequences",), order=60)
def tracking(context: Context) -> list[Score]:
    """Objects followed from the mask of their first frame, measured as DAVIS does."""
    sequences = context.source.sequences
    drawn = evenly(len(sequences), SEQUENCES)
    objects, rows = [], []
    for number, sequence in enumerate(sequences):
        context.progress(f"tracking, {context.subject.name}: {sequence.name}")
        frames = _decode(context, sequence)
        masks = _follow(context, frames, first_masks(sequence.masks()))
        if context.folder is not None:
            name = context.subject.name
            sequence.write_masks(masks, context.folder / "tracking" / name / sequence.name)
        if not all(path.is_file() for path in sequence.annotations):
            continue  # a test set, whose annotations are withheld
        annotation = sequence.read_masks()
        objects += score(annotation, masks, sequence.name)
        if number in drawn:
            rows.append((sequence.name, frames, annotation, masks))
    if not objects:
        raise ValueError("No sequence has an annotation of every frame, so none is scored.")
    _draw(context, rows)
    return _scores(objects, context.seed)


def _follow(context: Context, frames: Tensor, masks: dict[int, Tensor]) -> Tensor:
    """Masks (T, H, W) of objects followed in frames, one by one or a clip at a time."""
    fixed, clip = context.features.subjects[0].encoder.fixed_size, context.settings.frames
    size = protocol_size(frames.shape[-2:], context.patch_size) if fixed is None else fixed[-2:]

    def encode(frames: Tensor) -> Tensor:
        if clip is None:
            return context.encode(frames).tokens.float()
        missing = frames[-1:].expand(-len(frames) % clip, -1, -1, -1)  # repeats the last frame
        tokens = context.encode(torch.cat([frames, missing]).unflatten(0, (-1, clip))).tokens
        repeated = tokens.float().repeat_interleave(clip // tokens.shape[1], 1)
        return repeated.flatten(0, 1)[: len(frames)]

    return track(frames, masks, encode, size=size, batch=clip or 8)


def _decode(context: Context, sequence: VideoSequence) -> Tensor:
    cache = context.features.shared.setdefault("frames", {})
    if sequence.name not in cache:
        frames = sequence.frames()
        if sum(kept.nbytes for kept in cache.values()) + frames.nbytes > CACHE:
            return frames
        cache[sequence.name] = frames
    return cache[sequence.name]


def _scores(objects: list[TrackedObject], seed: int) -> list[Score]:
    found, n = Tracking(objects), len(objects)
    names = list(found.sequences)
    values = np.array([one.j_and_f for one in objects])
    sequence = np.array([names.index(one.sequence) for one in objects])
    interval = ratio_interval(values, np.ones(n), sequence, resample(len(names), seed))
    note = "Mean over objects of region similarity J and contour accuracy F, as DAVIS 2017."
    scores = [Score("j_and_f", found.j_and_f, interval, n, title="J&F", note=note, headline=True)]
    recall = "Share of frames above one half."
    decay = "How much it falls from the first quarter of a sequence to the last."
    for name, letter, measure in (("j", "J", found.region), ("f", "F", found.contour)):
        title = f"{letter}, decay"
        scores += [
            Score(f"{name}_mean", measure.mean, n=n, title=letter),
            Score(f"{name}_recall", measure.recall, n=n, title=f"{letter}, recall", note=recall),
            Score(f"{name}_decay", measure.decay, None, n, "%", None, title, decay, False),
        ]
    for name, value in found.sequences.items():
        n = sum(one.sequence == name for one in objects)
        scores.append(Score(f"sequence/{name}", value, n=n, title=f"J&F, {name}"))
    return scores


def _draw(context: Context, rows: list[tuple[str, Tensor, Tensor, Tensor]]) -> None:
    height, width = rows[0][1].shape[-2:]
    figure = Figure((WIDTH, len(rows) * (WIDTH / FRAMES * height / width + 0.25)), facecolor="none")
    cells = figure.subplots(len(rows), FRAMES, squeeze=False)
    for line, (name, frames, annotation, masks) in zip(cells, rows, strict=True):
        line[0].set_title(name, loc="left", **TEXT)
        shown = torch.linspace(0, len(frames) - 1, FRAMES).round().long()
        for cell, t in zip(line, shown.tolist(), strict=True):
            cell.imshow(channels_last(frames[t]))
            truth = torch.where(annotation[t] == 255, 0, annotation[t])
            draw_objects(cell, truth.numpy(), masks[t].numpy())
            cell.axis("off")
    figure.subplots_adjust(0, 0, 1, 1 - 0.2 / figure.get_figheight(), 0.03, 0.12)
    context.picture(
        "sequences",
        figure,
        "Objects followed",
        "Outlined: the true object. Tinted: what the tokens' similarity follows from the mask of "
        "the first frame, on the left.",
    )
