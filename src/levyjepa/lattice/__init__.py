"""From a grid of tokens to increments and their cell volume."""

from levyjepa.expression import evaluate
from levyjepa.lattice.field import increments, overlaps, sample_sheet, tiling, whole_cells
from levyjepa.lattice.stencil import Stencil, box, diamond, line

__all__ = [
    "Stencil",
    "box",
    "diamond",
    "increments",
    "line",
    "overlaps",
    "parse",
    "sample_sheet",
    "tiling",
    "whole_cells",
]


def parse(text: str) -> Stencil:
    """The stencil that `text` names, as in a configuration file.

    >>> parse("box(2, side=2)") == box(2, side=2)
    True
    """
    return evaluate(text, {"box": box, "diamond": diamond, "line": line}, "stencil")
