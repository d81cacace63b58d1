"""What label propagation gains when nothing crosses a cut: `python benchmarks/tracking.py
[--clips 100] [--side 128] [--run RUN] [--folder FOLDER]`.

Test clips of data=moving_digits are written in DAVIS's layout, enlarged to `--side` pixels,
followed by DINO's protocol and scored as DAVIS does, with and without the rule that nothing is
propagated across a cut. A cut is a frame in which nine tokens in ten jumped under a Brownian motion
with Laplace jumps, fitted to the tokens' steps in 20 training clips. "Visible" and "absent" are J&F
over the frames in which an object is visible and over those in which it is not. Intervals are of
95 %, by bootstrap over clips, paired for differences. Frames and masks stay in `--folder`.
"""

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as F

from levyjepa.data.davis_layout import open_davis, write_clips
from levyjepa.data.digit_clips import MovingDigits
from levyjepa.data.views import normalize
from levyjepa.inference import fit
from levyjepa.laws import Brownian, CompoundPoisson, LaplaceJumps, Law
from levyjepa.models import ModelSettings, PixelEncoder, build_encoder
from levyjepa.tasks.tracking import Tracking, first_masks, score_results, step_probability, track
from levyjepa.training.loading import load

TRAINING, STEPS = 20, 5000  # clips and scalar increments that the law is fitted to
RESAMPLES = 2000
GRAY = (0.2,) * 3

Encode = Callable[[Tensor], Tensor]


def encoders(run: Path | None, side: int) -> dict[str, Encode]:
    """Encoders by name, each from frames (n, 3, H, W) uint8 to tokens (n, h, w, C)."""
    torch.manual_seed(0)
    overrides = {"embed_dim": 96, "depth": 4, "num_heads": 3}
    settings = ModelSettings(
        name="vit_tiny_patch16_224", patch_size=4, drop_path=0.0, overrides=overrides
    )

    @torch.inference_mode()
    def encode(frames: Tensor, encoder: nn.Module, mean: tuple, std: tuple) -> Tensor:
        return encoder.eval()(normalize(frames, mean, std)).tokens.float()

    vit = build_encoder(settings, side)
    named: dict[str, Encode] = {
        "pixels, 4 x 4": partial(encode, encoder=PixelEncoder(4, GRAY, GRAY), mean=GRAY, std=GRAY),
        "untrained ViT, 4 x 4": partial(encode, encoder=vit, mean=GRAY, std=GRAY),
    }
    if run is not None:
        own = load(run)
        named[run.resolve().name] = lambda frames: own.tokens(normalize(frames, own.mean, own.std))
    return named


def fit_law(encode: Encode, root: Path, side: int) -> Law:
    """The law of a token's step from a frame to the next, over all its channels."""
    clips = [F.resize(one.frames(), [side, side]) for one in open_davis(root)]
    steps = torch.cat([encode(frames).diff(dim=0).flatten() for frames in clips])
    sample = torch.randperm(len(steps), generator=torch.Generator().manual_seed(0))[:STEPS]
    return fit(steps[sample], Brownian(0.5) + CompoundPoisson(1.0, LaplaceJumps(1.0))).law


def sums(found: Tracking) -> np.ndarray:
    """(3, 2, clips): sums and numbers, of J&F by object, of frames with it and without it."""
    names = list(found.sequences)
    table = np.zeros((3, 2, len(names)))
    for one in found.objects:
        visible = one.values[one.visible], one.values[~one.visible]
        for part, values in enumerate(([one.j_and_f], *visible)):
            table[part, :, names.index(one.sequence)] += sum(values), len(values)
    return table


def cells(table: np.ndarray, base: np.ndarray | None) -> str:
    """J&F, J&F while visible and while absent, in percent, and what they gain."""
    clips = table.shape[-1]
    drawn = np.random.default_rng(0).integers(0, clips, (RESAMPLES, clips))

    def means(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        with np.errstate(invalid="ignore"):  # few clips may have no such frame
            whole, samples = sums.sum(-1), sums[..., drawn].sum(-1)
            return 100 * whole[:, 0] / whole[:, 1], 100 * samples[:, 0] / samples[:, 1]

    def ends(samples: np.ndarray, form: str) -> str:
        low, high = np.nanquantile(samples, (0.025, 0.975))
        return f"({low:{form}} to {high:{form}})"

    mean, samples = means(table)
    texts = [f"{m:.1f} {ends(s, '.1f')}" for m, s in zip(mean, samples, strict=True)]
    if base is not None:
        gain, more = (a - b for a, b in zip((mean, samples), means(base), strict=True))
        texts = [
            f"{text}; {g:+.1f} {ends(s, '+.1f')}"
            for text, g, s in zip(texts, gain, more, strict=True)
        ]
    return " | ".join(texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        test, train = MovingDigits("test", options.clips), MovingDigits("train", TRAINING)
        for name, clips in (("test", test), ("train", train)):
            write_clips((clips[index] for index in range(len(clips))), folder / name)
        sequences, objects = open_davis(folder / "test"), 0
        print("| tokens | cuts | J&F | visible | absent | J | F |\n|---|---|---|---|---|---|---|")
        for number, (name, encode) in enumerate(encoders(options.run, options.side).items()):
            law = fit_law(encode, folder / "train", options.side)
            base = None
            for rule, jumps in (("crossed", None), ("kept", partial(step_probability, law=law))):
                results = folder / "masks" / f"{number}-{rule}"
                for one in sequences:
                    size, first = (options.side, options.side), first_masks(one.masks())
                    masks = track(one.frames(), first, encode, size=size, jumps=jumps)
                    one.write_masks(masks, results / one.name)
                found = score_results(results, sequences)
                table = sums(found)
                means = f"{100 * found.region.mean:.1f} | {100 * found.contour.mean:.1f}"
                print(f"| {name} | {rule} | {cells(table, base)} | {means} |", flush=True)
                base, objects = table, len(found.objects)
        print(f"\nn = {objects} objects in {options.clips} clips.")


if __name__ == "__main__":
    main()
