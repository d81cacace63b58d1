"""J&F of tokens that carry labels through moving digits: `python benchmarks/tracking.py [--clips
100] [--side 128] [--checkpoint C] [--folder FOLDER]`.

Test clips of data=moving_digits are written in DAVIS 2017's layout, enlarged to `--side` pixels,
followed by DINO's protocol and judged as DAVIS does, with and without the rule that nothing is
taken across a cut. A cut is a frame at which nine tokens in ten jumped under a Brownian motion with
Laplace jumps, fitted to the tokens' steps in 20 training clips. Intervals are of 95 %, by bootstrap
over clips, paired for the gain. "There" and "gone" are J&F over the frames in which an object is to
be seen and those in which it is not, where any pixel of it is wrong: the rule gains in the latter.
Frames and masks stay in `--folder`, if given.
"""

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from levyjepa.data import normalise
from levyjepa.data.moving_digits import MovingDigits
from levyjepa.evaluation.features import fields, patches
from levyjepa.evaluation.tracking import (
    Tracking,
    contour_accuracy,
    evaluate_davis,
    open_davis,
    region_similarity,
    time_jumps,
    write_clips,
)
from levyjepa.inference import fit
from levyjepa.laws import Brownian, CompoundPoisson, LaplaceJumps, Law
from levyjepa.models import Encoder
from levyjepa.training.run import load

TRAINING, STEPS = 20, 5000  # clips and scalar increments that the law is fitted to
RESAMPLES = 2000

Encode = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Sums:
    """J&F of each clip's objects, added up, and how many they are."""

    total: np.ndarray  # (clips,)
    number: np.ndarray

    @classmethod
    def of(cls, tracking: Tracking) -> "Sums":
        held = defaultdict(list)
        for one in tracking.objects:
            held[one.sequence].append(one.j_and_f)
        total, number = ([of(values) for values in held.values()] for of in (sum, len))
        return cls(np.array(total), np.array(number))

    def resampled(self, chosen: np.ndarray) -> np.ndarray:
        """The mean over objects for each choice of clips."""
        return self.total[chosen].sum(1) / self.number[chosen].sum(1)


def encoders(checkpoint: Path | None, side: int) -> dict[str, Encode]:
    grey = partial(normalise, mean=(0.2,) * 3, std=(0.2,) * 3)
    torch.manual_seed(0)
    vit = Encoder(
        "vit_tiny_patch16_224", side, 4, embed_dim=96, depth=4, num_heads=3, drop_path=0.0
    )
    found: dict[str, Encode] = {
        "pixels, 4 x 4": partial(patches, side=4),
        "untrained ViT, 4 x 4": lambda frames: fields(vit, frames, grey),
    }
    if checkpoint is not None:
        trained = load(checkpoint)
        own = partial(normalise, mean=trained.mean, std=trained.std)
        name = checkpoint.resolve().parents[1].name  # the run folder's
        found[name] = lambda frames: fields(trained.network, frames, own)
    return found


def fitted(encode: Encode, root: Path, side: int) -> Law:
    """The law of a token's step from a frame to the next, over all its channels."""
    clips = [F.resize(one.frames(), [side, side]) for one in open_davis(root)]
    steps = torch.cat([encode(frames).diff(dim=0).flatten() for frames in clips])
    drawn = torch.randperm(len(steps), generator=torch.Generator().manual_seed(0))[:STEPS]
    return fit(steps[drawn], Brownian(0.5) + CompoundPoisson(1.0, LaplaceJumps(1.0))).law


def there_and_gone(root: Path, results: Path) -> tuple[float, float]:
    """J&F over the judged frames with and without the object."""
    values, seen = [], []
    for one in open_davis(root):
        files = one.annotations, [results / one.name / path.name for path in one.annotations]
        annotation, prediction = (
            np.stack([np.array(Image.open(f)) for f in part]) for part in files
        )
        for number in np.unique(annotation)[1:]:
            truth, claim = annotation == number, prediction == number
            judged = slice(truth.any((1, 2)).argmax() + 1, -1)
            if len(truth[judged]):
                pair = truth[judged], claim[judged]
                values.append((region_similarity(*pair) + contour_accuracy(*pair)) / 2)
                seen.append(truth[judged].any((1, 2)))
    value, there = np.concatenate(values), np.concatenate(seen)
    return value[there].mean(), value[~there].mean()


def row(
    name: str,
    rule: str,
    found: Tracking,
    sums: Sums,
    base: Sums | None,
    parts: tuple[float, float],
) -> str:
    draw = np.random.default_rng(0)
    chosen = draw.integers(0, len(sums.total), (RESAMPLES, len(sums.total)))
    drawn = sums.resampled(chosen)
    low, high = np.quantile(drawn, (0.025, 0.975))
    gain = ""
    if base is not None:
        ends = np.quantile(drawn - base.resampled(chosen), (0.025, 0.975))
        middle = found.j_and_f - base.total.sum() / base.number.sum()
        gain = f"{100 * middle:+.1f} [{100 * ends[0]:+.1f}, {100 * ends[1]:+.1f}]"
    j, f = found.region, found.contour
    numbers = (*parts, j.mean, j.recall, j.decay, f.mean, f.recall, f.decay)
    return (
        f"| {name} | {rule} | {100 * found.j_and_f:.1f} [{100 * low:.1f}, {100 * high:.1f}] "
        f"| {gain} | {' | '.join(f'{100 * value:.1f}' for value in numbers)} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as passing:
        folder = options.folder or Path(passing)
        test, train = MovingDigits("test", options.clips), MovingDigits("train", TRAINING)
        for name, held in (("test", test), ("train", train)):
            write_clips((held[index] for index in range(len(held))), folder / name)
        heads = "tokens, rule, J&F, gain, there, gone, J mean, recall, decay, F mean, recall, decay"
        print(f"| {heads.replace(', ', ' | ')} |\n{'|---' * len(heads.split(', '))}|")
        objects = 0
        for number, (name, encode) in enumerate(encoders(options.checkpoint, options.side).items()):
            law = fitted(encode, folder / "train", options.side)
            base = None
            for rule, jumps in (("none", None), ("cuts", partial(time_jumps, law=law))):
                results = folder / "masks" / f"{number}-{rule}"
                found = evaluate_davis(
                    folder / "test",
                    encode,
                    results,
                    side=options.side,
                    multiple=4,
                    jumps=jumps,
                )
                sums = Sums.of(found)
                parts = there_and_gone(folder / "test", results)
                print(row(name, rule, found, sums, base, parts), flush=True)
                base, objects = sums, len(found.objects)
        print(f"\nn = {objects} objects in {options.clips} clips.")


if __name__ == "__main__":
    main()
