"""`levyjepa jumps`: where a network sees jumps in pictures."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from levyjepa.cli.command import Command, add_checkpoint, out


def _arguments(parser: ArgumentParser) -> None:
    add_checkpoint(parser)
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    parser.add_argument("--out", type=Path, default=Path("jumps"), help="folder (jumps)")


def _run(options: Namespace) -> int:
    import numpy as np

    from levyjepa.report import draw_jumps
    from levyjepa.report.drawing import expected_jumps
    from levyjepa.training.checkpoint import load
    from levyjepa.training.jumps import read_jumps

    trained = load(options.checkpoint).of_images()
    for path in options.images:
        found = read_jumps(trained, path)
        options.out.mkdir(parents=True, exist_ok=True)
        target = options.out / path.stem
        np.save(target.with_suffix(".npy"), found.probability)
        draw_jumps(found.image, found.change, target.with_suffix(".png"))
        out(f"{path}: {target.with_suffix('.png')}, {target.with_suffix('.npy')}")
    if expected := expected_jumps(repr(trained.law)):
        out(f"{expected} Probabilities tell places apart where that is few; sizes always do (PNG).")
    return 0


JUMPS = Command(
    "Draw over images where the field changes most, at every patch corner (PNG), and write the "
    "probability of a jump there (.npy).",
    "levyjepa jumps runs/first photo.jpg --out jumps",
    _arguments,
    _run,
)
