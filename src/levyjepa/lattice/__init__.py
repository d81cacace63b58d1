"""From a grid of tokens to increments and their cell volume."""

from levyjepa.expression import evaluate
from levyjepa.lattice.field import (
    centres,
    increments,
    on_tokens,
    overlaps,
    room,
    sample_sheet,
    tiling,
    tilings,
    whole_cells,
)
from levyjepa.lattice.stencil import Stencil, box, diamond, line

__all__ = [
    "Stencil",
    "box",
    "centres",
    "diamond",
    "increments",
    "line",
    "on_tokens",
    "overlaps",
    "parse",
    "room",
    "sample_sheet",
    "tiling",
    "tilings",
    "whole_cells",
]


def parse(text: str) -> Stencil:
    """The stencil that `text` names, as in a configuration file.

    Raises:
        TypeError: the text is not a text.
        ValueError: it is not a stencil.

    >>> parse("box(2, side=2)") == box(2, side=2)
    True
    """
    if not isinstance(text, str):
        raise TypeError(f"A stencil's text must be a string, got {text!r}.")
    return evaluate(text, {"box": box, "diamond": diamond, "line": line}, "stencil")
