"""Where a field of tokens jumps: at each patch corner, at each edge, at each pixel."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from levyjepa.checks import count, floating
from levyjepa.inference import jump_probability
from levyjepa.lattice import Stencil, box, increments, line
from levyjepa.laws import CompoundPoisson, Law

CORNERS_AND_EDGES = (box(2), line(2, 0), line(2, 1))


def jump_map(
    field: Tensor, law: Law, rescale: bool = False, stencil: Stencil | None = None
) -> Tensor:
    """Return the probability of at least one jump at each position of a stencil.

    It grows with the norm of the increment over all channels, so it ranks the positions of one
    stencil as the norm does.

    Args:
        field: (B, h, w, C), projected patch tokens.
        law: The law of the field's increments.
        rescale: Whether to scale the field first, so that the mean square of its increments is the
            law's variance: for a field trained without the prior, which has no scale.
        stencil: box(2) if None. Its entry (i, j) belongs to the corner that patches (i, j) and
            (i + 1, j + 1) share; that of line(2, 0) to the edge between (i, j) and (i + 1, j).

    Returns:
        (B, h - 1, w - 1) in [0, 1]; (B, h - a, w - b) for a stencil of extent (a, b).

    Raises:
        ValueError: A field of another rank or with fewer patches than the stencil needs; to be
            rescaled, a constant field or a law without variance.
    """
    floating("field", field, 4, "(B, h, w, C)")
    stencil = box(2) if stencil is None else stencil
    samples = increments(field, stencil)
    if rescale:
        samples = samples * law.variance(stencil.volume) ** 0.5 / _root_mean_square(samples)
    probability = jump_probability(samples, law, stencil.volume, isotropic=True)
    return probability.unflatten(1, _positions(field, stencil))


def increment_map(field: Tensor, stencil: Stencil | None = None) -> Tensor:
    """Return the norm of the increment over all channels at each position of a stencil.

    `jump_map` grows with it and with nothing else, but saturates at 1.

    Args:
        field: (B, h, w, C), patch tokens, projected or not.
        stencil: box(2) if None, as for `jump_map`.

    Returns:
        (B, h - a, w - b) for a stencil of extent (a, b): at least 0, of mean square 1.

    Raises:
        ValueError: A constant field, or one of another rank or with too few patches.
    """
    floating("field", field, 4, "(B, h, w, C)")
    stencil = box(2) if stencil is None else stencil
    samples = increments(field, stencil)
    norms = samples.norm(dim=-1) / (_root_mean_square(samples) * samples.shape[-1] ** 0.5)
    return norms.unflatten(1, _positions(field, stencil))


def jump_pixels(
    field: Tensor,
    law: Law,
    size: Sequence[int],
    stencils: Sequence[Stencil] = CORNERS_AND_EDGES,
    trained: Sequence[Stencil] = (),
) -> Tensor:
    """Return the probability of a jump at each pixel, the largest of several stencils' maps.

    box(2) is blind to a straight edge along an axis; lines see it. Each map is laid on the pixels
    by bilinear interpolation between its positions. Under a law of many jumps, and with many
    channels, it is 1 at most pixels; `increment_pixels` still ranks them.

    Args:
        field: (B, h, w, C), projected patch tokens.
        law: The law of the field's increments.
        size: Pixels (H, W) of the images.
        stencils: Whose maps.
        trained: The stencils that the prior trained; the increments of others are rescaled as
            `jump_map` does.

    Returns:
        (B, H, W) in [0, 1].
    """

    def read(stencil: Stencil) -> Tensor:
        return jump_map(field, law, stencil not in trained, stencil)

    return _largest(read, field, size, stencils)


def increment_pixels(
    field: Tensor, size: Sequence[int], stencils: Sequence[Stencil] = CORNERS_AND_EDGES
) -> Tensor:
    """Return the norm of the increment at each pixel, in its stencil's root mean square.

    It is `jump_pixels` without a law, and never saturates. With two lines, and tokens for a field,
    it is the tokens' gradient.

    Args:
        field: (B, h, w, C), patch tokens, projected or not.
        size: Pixels (H, W) of the images.
        stencils: The largest of their maps is taken.

    Returns:
        (B, H, W), at least 0.
    """
    floating("field", field, 4, "(B, h, w, C)")
    return _largest(partial(increment_map, field), field, size, stencils)


def lay(values: Tensor, stencil: Stencil, grid: Sequence[int], size: Sequence[int]) -> Tensor:
    """Interpolate values at a stencil's positions to pixels.

    Args:
        values: (B, h - a, w - b), one for each position of a stencil of extent (a, b).
        stencil: A position lies in the middle of its sites.
        grid: Patches (h, w).
        size: Pixels (H, W).

    Returns:
        (B, H, W), bilinear between positions, constant beyond the outermost.
    """
    axes = []
    for axis, (patches, pixels) in enumerate(zip(grid, size, strict=True)):
        middle = sum(offset[axis] for offset in stencil.offsets) / len(stencil.offsets)
        at = (torch.arange(pixels) + 0.5) * patches / pixels - 0.5 - middle
        axes.append(2 * at / max(values.shape[axis + 1] - 1, 1) - 1)
    rows, columns = torch.meshgrid(*axes, indexing="ij")
    places = torch.stack([columns, rows], -1).to(values).expand(len(values), -1, -1, -1)
    return grid_sample(values[:, None], places, padding_mode="border", align_corners=True)[:, 0]


def expected_jumps(law: Law, stencil: Stencil | None = None) -> float | None:
    """Return the share of cells in which a law has at least one jump; None if it names no jumps.

    Args:
        law: Of increments.
        stencil: Of the cells; box(2) if None.
    """
    volume = 1.0 if stencil is None else stencil.volume
    parts = [part for part in law.modules() if isinstance(part, CompoundPoisson)]
    rate = sum(float(part.rate) for part in parts)
    return -math.expm1(-rate * volume) if rate else None


def _largest(
    read: Callable[[Stencil], Tensor],
    field: Tensor,
    size: Sequence[int],
    stencils: Sequence[Stencil],
) -> Tensor:
    if not stencils:
        raise ValueError("`stencils` must be at least one stencil, got none.")
    if len(size) != 2:
        raise ValueError(f"`size` must be (H, W), got {size!r}.")
    for side in size:
        count("size", side)
    grid = field.shape[1:3]
    maps = [lay(read(stencil), stencil, grid, size) for stencil in stencils]
    return torch.stack(maps).amax(0)


def _positions(field: Tensor, stencil: Stencil) -> tuple[int, int]:
    return field.shape[1] - stencil.extent[0], field.shape[2] - stencil.extent[1]


def _root_mean_square(samples: Tensor) -> Tensor:
    mean_square = samples.square().mean()
    if not mean_square > 0:
        raise ValueError("`field` must vary to be rescaled, got increments that are all 0.")
    return mean_square**0.5
