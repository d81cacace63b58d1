"""From a model's sequence of tokens to a field on the grid of patches."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from levyjepa import checks


class MaskedField(NamedTuple):
    """A field of which some tokens are missing.

    Args:
        field: (B, *grid, C), 0 where a token is missing.
        mask: (B, *grid) bool, False where a token is missing.
    """

    field: Tensor
    mask: Tensor


def tokens_to_grid(tokens: Tensor, grid: Sequence[int] | None = None, prefix: int = 0) -> Tensor:
    """Return the tokens of patches as a field on their grid.

    Args:
        tokens: (B, prefix + N, C), patches in row-major order.
        grid: Number of patches along each axis, such as (h, w) or (t, h, w). A square if None.
        prefix: Number of tokens in front of the patches, such as class and register tokens. They
            are dropped.

    Returns:
        (B, *grid, C), a view of `tokens`.

    Raises:
        TypeError, ValueError: The tokens do not fill the grid.

    >>> tokens_to_grid(torch.zeros(8, 197, 384), prefix=1).shape
    torch.Size([8, 14, 14, 384])
    >>> tokens_to_grid(torch.zeros(8, 197, 384))
    Traceback (most recent call last):
    ValueError: `tokens` must fill a square grid, got 197 tokens and prefix=0: with prefix=1 they \
are a 14 x 14 grid.
    """
    patches = _patches(tokens, prefix)
    count, sizes = patches.shape[1], None if grid is None else _sizes(grid)
    if sizes is None and (side := math.isqrt(count)) ** 2 == count:
        sizes = (side, side)
    if sizes is None or math.prod(sizes) != count:
        shape = "square" if sizes is None else _times(sizes)
        raise ValueError(
            f"`tokens` must fill a {shape} grid, got {tokens.shape[1]} tokens and "
            f"prefix={prefix}{_suggestion(tokens.shape[1], sizes)}."
        )
    return patches.unflatten(1, sizes)


def scatter_tokens(
    tokens: Tensor, keep: Tensor, grid: Sequence[int], prefix: int = 0
) -> MaskedField:
    """Put the tokens of the patches that a masked encoder kept at their places on the full grid.

    Args:
        tokens: (B, prefix + M, C).
        keep: (B, M) integers, the place of every kept patch on the grid in row-major order,
            counted from 0 without prefix tokens. Different in an image.
        grid: Number of patches along each axis, missing ones included.
        prefix: Number of tokens in front of the patches. They are dropped.

    Returns:
        `.field` (B, *grid, C), 0 where a patch is missing, and `.mask` (B, *grid), False there.

    Raises:
        TypeError: An argument has a wrong type.
        ValueError: The shapes do not agree, or places are outside of the grid or occur twice.
            Places are not checked on a GPU, to avoid synchronization.

    >>> field, mask = scatter_tokens(torch.ones(1, 2, 1), torch.tensor([[3, 0]]), (2, 2))
    >>> field[0, ..., 0], mask[0]
    (tensor([[1., 0.],
            [0., 1.]]), tensor([[ True, False],
            [False,  True]]))
    """
    patches, sizes = _patches(tokens, prefix), _sizes(grid)
    batch, count, channels = patches.shape
    if not isinstance(keep, Tensor) or keep.dtype.is_floating_point or keep.dtype == torch.bool:
        kind = keep.dtype if isinstance(keep, Tensor) else type(keep).__name__
        raise TypeError(f"`keep` must be a tensor of integers, got {kind}.")
    if keep.shape != (batch, count):
        raise ValueError(
            f"`keep` must be ({batch}, {count}), a place for each of {tokens.shape[1]} tokens "
            f"without the prefix of {prefix}, got {tuple(keep.shape)}."
        )
    places, total = keep.long(), math.prod(sizes)
    if not (places.is_cuda or torch.compiler.is_compiling()):
        low, high = int(places.min()), int(places.max())
        if low < 0 or high >= total:
            raise ValueError(
                f"`keep` must be from 0 to {total - 1} on a {_times(sizes)} grid, "
                f"got {low if low < 0 else high}."
            )
        ordered = places.sort(1).values
        if (ordered[:, 1:] == ordered[:, :-1]).any():
            raise ValueError("`keep` must not name a place twice in an image.")
    mask = torch.zeros(batch, total, dtype=torch.bool, device=places.device)
    mask = mask.scatter(1, places, True)
    index = places[..., None].expand(-1, -1, channels)
    field = patches.new_zeros(batch, total, channels).scatter(1, index, patches)
    return MaskedField(field.unflatten(1, sizes), mask.unflatten(1, sizes))


def _patches(tokens: Tensor, prefix: int) -> Tensor:
    """Return the tokens without those in front."""
    checks.floating("tokens", tokens, 3, "(B, N, C)")
    if checks.count("prefix", prefix, least=0) >= tokens.shape[1]:
        raise ValueError(f"`prefix` must be below {tokens.shape[1]} tokens, got {prefix}.")
    return tokens[:, prefix:]


def _sizes(grid: Sequence[int]) -> tuple[int, ...]:
    sizes = checks.sizes("grid", grid)
    if not sizes or min(sizes) < 1:
        raise ValueError(f"`grid` must be one positive size or more, got {sizes}.")
    return sizes


def _times(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes))


def _suggestion(count: int, sizes: tuple[int, ...] | None) -> str:
    """Return which prefix would make the tokens fill the grid, an empty text if none does."""
    if sizes is not None:
        left = count - math.prod(sizes)
        return f": with prefix={left} they do" if left >= 0 else f": {-left} are missing"
    for prefix in range(min(count, 17)):
        if (side := math.isqrt(count - prefix)) ** 2 == count - prefix:
            return f": with prefix={prefix} they are a {side} x {side} grid"
    return ""
