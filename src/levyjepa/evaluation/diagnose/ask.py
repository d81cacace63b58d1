"""Each layer and stencil is asked for its law, its jumps, and what controls say."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from levyjepa.checks import floating
from levyjepa.ecf import equispaced, null
from levyjepa.evaluation.diagnose.choice import FAMILIES, GAUSSIAN, JUMPS, NIG, Choice, choose
from levyjepa.evaluation.diagnose.estimates import jackknife, kurtosis, neighbours, together
from levyjepa.evaluation.diagnose.record import Control, Finding, Goodness, Jumps, Side
from levyjepa.inference import goodness_of_fit, jump_probability
from levyjepa.lattice import Stencil, box, diamond, increments, line, room, tiling
from levyjepa.laws import Law

STENCILS = (box(2), diamond(), line(2, 0), line(2, 1))
LEAST = 8  # images
DIRECTIONS = 16  # random directions in which increments are read
SAMPLES = 6400  # increments of each half that likelihoods see
THIN = 64  # cells of each image that a test of fit sees
MANY = 8.0  # expected jumps in a cell above which none can be told apart
SIDES = (1, 2, 4)
SHOWN = 6  # images with a jump map


def diagnose(
    fields: Mapping[str, Tensor],
    stencils: Sequence[Stencil] = STENCILS,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> list[Finding]:
    """Ask each layer and stencil for the law of the increments, and for their independence.

    A layer's tokens are divided by one number, so that increments over a unit volume have variance
    1 on average over the stencils, and read along 16 random orthonormal directions (fewer
    channels: all, turned at random): which channels a model has does not matter, whether all
    directions share one law does. Laws are fitted to half of the images and judged on the other;
    every standard error takes images for the independent units, since increments of one image
    depend on each other.

    Args:
        fields: (N, h, w, C) tokens of the same N images, by the layer's name.
        stencils: Of two axes, with steps.
        seed: Draws the halves, the directions, the increments and the controls.
        progress: Told the layer and stencil that comes next.

    Raises:
        ValueError: Fewer than 8 images, a grid too small for a stencil, tokens that are not finite
            or the same everywhere.
    """
    if not fields or not stencils:
        raise ValueError("`fields` and `stencils` must hold one at least, got none.")
    for layer, field in fields.items():
        _check(layer, field, stencils)
    findings = []
    for layer, field in fields.items():
        generator = torch.Generator().manual_seed(seed)
        turned, own = _turned(layer, field, stencils, generator)
        order = torch.randperm(turned[..., 0].numel(), generator=generator)
        shuffled = turned.flatten(0, 2)[order].view(turned.shape)
        for stencil in stencils:
            progress(f"{layer}, {stencil_name(stencil)}")
            findings.append(_find(layer, turned, own, shuffled, stencil, generator))
    return findings


def stencil_name(stencil: Stencil) -> str:
    """Such as "box", "diamond × 2" or "lines down"; its steps if it is none of them."""
    side = max(abs(n) for n in stencil.steps[0])
    known = {"box": box(2, side), "diamond": diamond(side)}
    known |= {"lines down": line(2, 0, side), "lines across": line(2, 1, side)}
    name = next((n for n, each in known.items() if each.steps == stencil.steps), None)
    return str(stencil.steps) if name is None else name + f" × {side}" * (side > 1)


def _check(layer: str, field: Tensor, stencils: Sequence[Stencil]) -> None:
    floating(layer, field, 4, "(N, h, w, C)")
    if len(field) < LEAST:
        raise ValueError(f"At least {LEAST} images are needed, got {len(field)}.")
    if not field.isfinite().all():
        raise ValueError(f"{layer} must be finite, got NaN or infinite tokens.")
    for stencil in stencils:
        if any(n <= e for n, e in zip(field.shape[1:3], stencil.extent, strict=True)):
            least, got = tuple(e + 1 for e in stencil.extent), tuple(field.shape[1:3])
            raise ValueError(
                f"The stencil {stencil_name(stencil)} needs a grid of at least {least} tokens, "
                f"{layer} has {got}: larger images (data.image_size) or another stencil "
                "(objective.stencils) would do."
            )


def _turned(
    layer: str, field: Tensor, stencils: Sequence[Stencil], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Tokens (N, h, w, K) along random directions, at the layer's own scale; in K own channels."""
    width = field.shape[-1]
    square = torch.randn(width, width, generator=generator, dtype=torch.float64)
    directions = torch.linalg.qr(square)[0][:, : min(DIRECTIONS, width)]
    turned = (field.double() - field.double().mean((0, 1, 2))) @ directions
    sizes = [increments(turned, each).square().mean() / each.volume for each in stencils]
    scale = torch.stack(sizes).mean().sqrt()
    if not scale > 1e-6 * field.abs().max():
        raise ValueError(f"{layer} must vary over its grid, got the same token everywhere.")
    for stencil, size in zip(stencils, sizes, strict=True):
        if not size > 1e-9 * scale**2:
            raise ValueError(f"{layer} must vary over the {stencil_name(stencil)}, got no change.")
    channels = torch.randperm(width, generator=generator)[:DIRECTIONS]
    return turned / scale, field[..., channels].double()


def _find(
    layer: str,
    field: Tensor,
    own: Tensor,
    shuffled: Tensor,
    stencil: Stencil,
    generator: torch.Generator,
) -> Finding:
    steps = increments(field, stencil)
    n, volume = len(steps), stencil.volume
    tiles = torch.from_numpy(tiling(stencil, room(stencil, field.shape[1:3])))
    train, test = torch.randperm(n, generator=generator).tensor_split(2)
    known, new = (_drawn(steps[half][:, tiles], generator) for half in (train, test))
    choice = choose(known, new, volume)
    chosen, plain = choice.chosen, choice.of(GAUSSIAN)
    assert plain is not None
    thin = _thinned(steps[test][:, tiles], generator)
    goodness = _goodness(thin, chosen.law, volume, generator)
    variance = steps.square().mean((0, 1))
    alike = steps.mean(0).square().mean()  # holds 1 / n of what differs
    fixed = (alike / variance.mean() - 1 / n) / (1 - 1 / n)
    root = torch.linalg.cholesky(_covariance(steps))
    drawn = torch.randn(steps.shape, generator=generator, dtype=steps.dtype) @ root.T
    noise = increments(shuffled, stencil)
    return Finding(
        layer=layer,
        stencil=stencil_name(stencil),
        volume=volume,
        cells=steps.shape[1],
        variance=float(variance.mean()) / volume,
        spread=float(variance.std(correction=0) / variance.mean()),
        fixed=max(0.0, float(fixed)),
        kurtosis=kurtosis(steps),
        choice=choice,
        goodness=goodness,
        goodness_of_gaussian=goodness
        if chosen is plain
        else _goodness(thin, plain.law, volume, generator),
        jumps=_jumps(steps, increments(own, stencil), choice, stencil, field.shape[1:3], generator),
        sides=tuple(side for k in SIDES if (side := _side(field, stencil, k))),
        gaussian=_control(drawn, stencil, field.shape[1:3], generator),
        shuffled=_control(noise, stencil, field.shape[1:3], generator),
        sample=new.flatten().float().numpy(),
    )


def _drawn(steps: Tensor, generator: torch.Generator) -> Tensor:
    """Equally many increments of each image, from all places and directions: (I, m)."""
    flat = steps.flatten(1)
    m = min(flat.shape[1], SAMPLES // len(flat) + 1)
    places = [torch.randperm(flat.shape[1], generator=generator)[:m] for _ in flat]
    return flat.gather(1, torch.stack(places))


def _thinned(steps: Tensor, generator: torch.Generator) -> Tensor:
    """Of a few cells of each image, one direction each."""
    parts = []
    for image in steps:
        cells = torch.randperm(len(image), generator=generator)[:THIN]
        parts.append(image[cells, torch.randint(image.shape[1], cells.shape, generator=generator)])
    return torch.cat(parts)


def _goodness(x: Tensor, law: Law, volume: float, generator: torch.Generator) -> Goodness:
    found = goodness_of_fit(x, law, volume, generator)
    expected = null(law, volume, equispaced(law, 64, volume), {1.0: len(x)})
    deviations = (found.statistic - float(expected.mean)) / float(expected.std)
    return Goodness(deviations, found.p_value, len(x))


def _covariance(steps: Tensor) -> Tensor:
    flat = steps.flatten(0, 1)
    covariance = flat.T @ flat / len(flat)
    ridge = 1e-9 * covariance.diagonal().mean()  # of directions in which nothing varies
    return covariance + ridge * torch.eye(len(covariance), dtype=steps.dtype)


def _side(field: Tensor, stencil: Stencil, side: int) -> Side | None:
    steps = [tuple(side * n for n in step) for step in stencil.steps]
    larger = Stencil.from_steps(steps)
    if any(n <= e for n, e in zip(field.shape[1:3], larger.extent, strict=True)):
        return None
    large, small = increments(field, larger), increments(field, stencil)
    ratio = side ** len(steps)
    moments = [each.square().mean((1, 2)) for each in (large, small)]
    return Side(
        side,
        jackknife(moments, lambda many, one: many / one / ratio),
        kurtosis(large),
        *neighbours(large, larger, field.shape[1:3]),
    )


def _jumps(
    steps: Tensor,
    own: Tensor,
    choice: Choice,
    stencil: Stencil,
    grid: Sequence[int],
    generator: torch.Generator,
) -> Jumps | None:
    usable = [each for each in choice.candidates if each.family in JUMPS]
    volume, k = stencil.volume, steps.shape[-1]
    if not usable or k < 2:
        return None
    expected = usable[0].parameters["laws.1.rate"].value * volume
    if expected > MANY:
        return None
    law = usable[0].law
    alone = jump_probability(steps, law, volume)
    sizes = own.square().mean((0, 1))
    alive = sizes > 1e-9 * sizes.max()
    own = own[..., alive] * (steps.square().mean() / sizes[alive]).sqrt()
    every = jump_probability(steps, law, volume, isotropic=True)
    drawn = law.sample((2, 20_000), volume, k, generator, steps.dtype)
    return Jumps(
        usable[0].family,
        law,
        float(every.mean()),
        -float(np.expm1(-expected)),
        together(alone),
        together(jump_probability(own, law, volume)),
        together(jump_probability(drawn, law, volume)).value,
        every[:SHOWN].unflatten(1, room(stencil, grid)).float().numpy(),
    )


def _control(
    steps: Tensor, stencil: Stencil, grid: Sequence[int], generator: torch.Generator
) -> Control:
    known, new = (_drawn(half, generator) for half in steps.tensor_split(2))
    families = {name: FAMILIES[name] for name in (GAUSSIAN, NIG)}
    tailed = choose(known, new, stencil.volume, families).of(NIG)
    gain = None if tailed is None else tailed.gain
    return Control(kurtosis(steps), gain, *neighbours(steps, stencil, grid))
