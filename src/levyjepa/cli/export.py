"""`levyjepa export`: the encoder as a file that needs PyTorch alone."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from levyjepa.cli.command import Command, add_checkpoint, out


def _arguments(parser: ArgumentParser) -> None:
    add_checkpoint(parser)
    parser.add_argument("out", type=Path, metavar="OUT.pt2")


def _run(options: Namespace) -> int:
    from levyjepa.training.checkpoint import load
    from levyjepa.training.export import export

    made = export(load(options.checkpoint), options.out)
    images, embedding, tokens = (
        f"(batch, {', '.join(map(str, shape))})"
        for shape in (made.images, made.embedding, made.tokens)
    )
    out(f"written: {options.out}: images {images} in [0, 1] to embedding {embedding}")
    out(f"and tokens {tokens}; loaded, it differs by at most {made.error:.1g} of the values")
    return 0


EXPORT = Command(
    "Write the encoder, its normalisation included, by torch.export, for batches of any size, and "
    "check what was written against the checkpoint. torch.export.load(OUT).module()(images) gives "
    "(embedding, tokens).",
    "levyjepa export runs/first encoder.pt2",
    _arguments,
    _run,
)
