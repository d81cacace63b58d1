"""J&F of tokens that carry labels through moving digits: `python benchmarks/tracking.py [--clips
100] [--side 128] [--checkpoint C] [--folder FOLDER]`.

Test clips of data=moving_digits are written in DAVIS 2017's layout, enlarged to `--side` pixels,
followed by DINO's protocol and judged as DAVIS does, with and without the rule that nothing is
taken across a cut. A cut is a frame at which nine tokens in ten jumped under a Brownian motion with
Laplace jumps, fitted to the tokens' steps in 20 training clips. "There" and "gone" are J&F over the
frames in which an object is to be seen and those in which it is not, where any pixel of it is
wrong. Intervals are of 95 %, by bootstrap over clips, paired for the gains. Frames and masks stay
in `--folder`, if given.
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from levyjepa.data import normalise
from levyjepa.data.davis import open_davis, write_clips
from levyjepa.data.moving_digits import MovingDigits
from levyjepa.evaluation.features import fields, patches
from levyjepa.evaluation.tracking import Tracking, evaluate_davis, time_jumps
from levyjepa.inference import fit
from levyjepa.laws import Brownian, CompoundPoisson, LaplaceJumps, Law
from levyjepa.models import Encoder
from levyjepa.training.checkpoint import load

TRAINING, STEPS = 20, 5000  # clips and scalar increments that the law is fitted to
RESAMPLES = 2000
ENDS = 0.025, 0.975
PARTS = "J&F", "there", "gone"

Encode = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Sums:
    """What is averaged of each clip, added up, and how many they are."""

    total: np.ndarray  # (clips,)
    number: np.ndarray

    @classmethod
    def of(cls, tracking: Tracking, part: str) -> "Sums":
        """J&F of each object, or of each frame in which one is "there" or "gone"."""
        held: dict[str, list[float]] = {name: [] for name in tracking.sequences}
        for one in tracking.objects:
            frames = one.values[one.seen == (part == "there")]
            held[one.sequence] += [one.j_and_f] if part == "J&F" else frames.tolist()
        total, number = ([of(values) for values in held.values()] for of in (sum, len))
        return cls(np.array(total), np.array(number))

    def mean(self, chosen: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Over all that clips (..., n) hold."""
        with np.errstate(invalid="ignore"):  # few clips may hold no such frame
            return 100 * self.total[chosen].sum(-1) / self.number[chosen].sum(-1)


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


def row(found: dict[str, Sums], base: dict[str, Sums] | None) -> str:
    clips = len(found["J&F"].total)
    chosen = np.random.default_rng(0).integers(0, clips, (RESAMPLES, clips))
    entries = []
    for part, sums in found.items():
        drawn = sums.mean(chosen)
        entry = f"{sums.mean():.1f} {interval(drawn, '.1f')}"
        if base is not None:
            gain, apart = sums.mean() - base[part].mean(), drawn - base[part].mean(chosen)
            entry += f"; {gain:+.1f} {interval(apart, '+.1f')}"
        entries.append(entry)
    return " | ".join(entries)


def interval(drawn: np.ndarray, how: str) -> str:
    low, high = np.nanquantile(drawn, ENDS)
    return f"({low:{how}} to {high:{how}})"


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
        print(f"| tokens | cuts | {' | '.join(PARTS)} | J | F |\n{'|---' * (len(PARTS) + 4)}|")
        objects = 0
        for number, (name, encode) in enumerate(encoders(options.checkpoint, options.side).items()):
            law = fitted(encode, folder / "train", options.side)
            base = None
            for rule, jumps in (("crossed", None), ("kept", partial(time_jumps, law=law))):
                found = evaluate_davis(
                    open_davis(folder / "test"),
                    encode,
                    folder / "masks" / f"{number}-{rule}",
                    side=options.side,
                    multiple=4,
                    jumps=jumps,
                )
                sums = {part: Sums.of(found, part) for part in PARTS}
                means = f"{100 * found.region.mean:.1f} | {100 * found.contour.mean:.1f}"
                print(f"| {name} | {rule} | {row(sums, base)} | {means} |", flush=True)
                base, objects = sums, len(found.objects)
        print(f"\nn = {objects} objects in {options.clips} clips.")


if __name__ == "__main__":
    main()
