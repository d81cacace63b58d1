"""Where a field of tokens jumps: at each patch corner, at each edge, at each pixel."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from levyjepa.checks import floating
from levyjepa.inference import jump_probability
from levyjepa.lattice import Stencil, box, increments, line
from levyjepa.laws import CompoundPoisson, Law

CORNERS = box(2)
CORNERS_AND_EDGES = (CORNERS, line(2, 0), line(2, 1))


def jump_map(field: Tensor, law: Law, rescale: bool = False, stencil: Stencil = CORNERS) -> Tensor:
    """Return the probability of at least one jump at each position of a stencil.

    It grows with the norm of the increment over all channels, so it ranks the positions of one
    stencil as the norm does.

    Args:
        field: (B, h, w, C), projected patch tokens.
        law: The law of the field's increments.
        rescale: Whether to scale the field first, so that the mean square of its increments is the
            law's variance: for a field trained without the prior, which has no scale.
        stencil: Entry (i, j) of box(2) belongs to the corner that patches (i, j) and (i + 1, j + 1)
            share; that of line(2, 0) to the edge between (i, j) and (i + 1, j).

    Returns:
        (B, h - 1, w - 1) in [0, 1]; (B, h - a, w - b) for a stencil of extent (a, b).

    Raises:
        ValueError: A field of another rank or with fewer patches than the stencil needs; to be
            rescaled, a constant field or a law without variance.
    """
    samples, mean_square = _increments(field, stencil, rescale)
    if rescale:
        samples = samples * law.variance(stencil.volume) ** 0.5 / mean_square**0.5
    flat = samples.flatten(1, -2)
    probability = jump_probability(flat, law, stencil.volume, isotropic=True)
    return probability.view(samples.shape[:-1])


def increment_map(field: Tensor, stencil: Stencil = CORNERS) -> Tensor:
    """Return the norm of the increment over all channels at each position of a stencil.

    `jump_map` grows with it and with nothing else, but saturates at 1.

    Args:
        field: (B, h, w, C), patch tokens, projected or not.
        stencil: As for `jump_map`.

    Returns:
        (B, h - a, w - b) for a stencil of extent (a, b): at least 0, of mean square 1.

    Raises:
        ValueError: A constant field, or one of another rank or with too few patches.
    """
    samples, mean_square = _increments(field, stencil)
    return samples.norm(dim=-1) / (mean_square**0.5 * samples.shape[-1] ** 0.5)


def _increments(field: Tensor, stencil: Stencil, vary: bool = True) -> tuple[Tensor, Tensor]:
    """Increments (B, h - a, w - b, C) and their mean square; if they must `vary`, above 0."""
    samples = increments(floating("field", field, 4, "(B, h, w, C)"), stencil)
    mean_square = samples.square().mean()
    if vary and not mean_square > 0:
        raise ValueError("`field` must vary to be rescaled, got increments that are all 0.")
    positions = [n - e for n, e in zip(field.shape[1:3], stencil.extent, strict=True)]
    return samples.unflatten(1, positions), mean_square


def jump_pixels(
    field: Tensor,
    law: Law,
    size: Sequence[int],
    stencils: Sequence[Stencil] = CORNERS_AND_EDGES,
    trained: Sequence[Stencil] = (),
) -> Tensor:
    """Return the probability of a jump at each pixel, the largest of several stencils' maps.

    box(2) is blind to a straight edge along an axis; lines see it. Under a law of many jumps, and
    with many channels, it is 1 at most pixels; `increment_pixels` still ranks them.

    Args:
        field, law: As of `jump_map`.
        size: Pixels (H, W) of the images.
        stencils: Whose maps are interpolated to pixels.
        trained: The stencils that the prior trained; `jump_map` rescales the others' increments.

    Returns:
        (B, H, W) in [0, 1].
    """
    return _largest(lambda s: jump_map(field, law, s not in trained, s), field, size, stencils)


def increment_pixels(
    field: Tensor, size: Sequence[int], stencils: Sequence[Stencil] = CORNERS_AND_EDGES
) -> Tensor:
    """Return the norm of the increment at each pixel, (B, H, W), in its stencil's root mean square.

    It is `jump_pixels` without a law, and never saturates. With two lines, and tokens for a field,
    it is the tokens' gradient.
    """
    return _largest(lambda stencil: increment_map(field, stencil), field, size, stencils)


def _largest(
    read: Callable[[Stencil], Tensor],
    field: Tensor,
    size: Sequence[int],
    stencils: Sequence[Stencil],
) -> Tensor:
    maps = [lay(read(stencil), stencil, field.shape[1:3], size) for stencil in stencils]
    return torch.stack(maps).amax(0)


def lay(values: Tensor, stencil: Stencil, grid: Sequence[int], size: Sequence[int]) -> Tensor:
    """Interpolate values (B, h - a, w - b) at a stencil's positions to pixels (B, H, W).

    Of a grid of (h, w) patches. A position lies in the middle of its sites; values are bilinear
    between positions, constant beyond the outermost.
    """
    axes = []
    for axis, (patches, pixels) in enumerate(zip(grid, size, strict=True)):
        middle = sum(offset[axis] for offset in stencil.offsets) / len(stencil.offsets)
        at = (torch.arange(pixels) + 0.5) * patches / pixels - 0.5 - middle
        axes.append(2 * at / max(values.shape[axis + 1] - 1, 1) - 1)
    rows, columns = torch.meshgrid(*axes, indexing="ij")
    places = torch.stack([columns, rows], -1).to(values).expand(len(values), -1, -1, -1)
    return grid_sample(values[:, None], places, padding_mode="border", align_corners=True)[:, 0]


def expected_jumps(law: Law, volume: float = 1.0) -> float | None:
    """Return the share of cells of a volume in which a law jumps; None if it names no jumps."""
    rate = sum(float(part.rate) for part in law.modules() if isinstance(part, CompoundPoisson))
    return -math.expm1(-rate * volume) if rate else None
