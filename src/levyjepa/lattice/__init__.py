"""Increments of fields on a grid of tokens, and the stencils that define them."""

from collections.abc import Sequence

from levyjepa.expression import evaluate
from levyjepa.lattice.field import (
    centers,
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
from levyjepa.lattice.tokens import MaskedField, scatter_tokens, tokens_to_grid

__all__ = [
    "MaskedField",
    "Stencil",
    "box",
    "centers",
    "diamond",
    "increments",
    "line",
    "on_tokens",
    "overlaps",
    "parse_stencils",
    "room",
    "sample_sheet",
    "scatter_tokens",
    "tiling",
    "tilings",
    "tokens_to_grid",
    "whole_cells",
]


def parse_stencils(text: str | Sequence[str]) -> tuple[Stencil, ...]:
    """Return the stencils that a text lists.

    Args:
        text: One or more stencils, such as "box(2), line(2, axis=0)", or a sequence of such texts.

    Raises:
        TypeError: `text` is neither a string nor a sequence of strings.
        ValueError: `text` does not list stencils.

    >>> parse_stencils("box(2, side=2), diamond()") == (box(2, side=2), diamond())
    True
    """
    if isinstance(text, Sequence) and not isinstance(text, str):
        return tuple(stencil for part in text for stencil in parse_stencils(part))
    if not isinstance(text, str):
        raise TypeError(f"`text` must be a string or a sequence of strings, got {text!r}.")
    parsed = evaluate(text, {"box": box, "diamond": diamond, "line": line}, "stencil")
    stencils = parsed if isinstance(parsed, tuple) else (parsed,)
    if not stencils or not all(isinstance(stencil, Stencil) for stencil in stencils):
        raise ValueError(f"`text` must list stencils, such as 'box(2), diamond()', got {text!r}.")
    return stencils
