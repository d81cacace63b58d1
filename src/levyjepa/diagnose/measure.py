"""What one layer and stencil says: its law, its jumps, its independence, its controls."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from levyjepa.checks import floating
from levyjepa.diagnose.families import FAMILIES, GAUSSIAN, JUMPS, NIG, Choice, Estimate, choose
from levyjepa.diagnose.moments import jackknife, kurtosis, neighbors, together
from levyjepa.ecf import equispaced, null
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
LEVEL = 0.05  # p-values below reject
CLOSE = 0.05  # correlations up to this count as 0; ratios up to twice this from 1 as 1
ERRORS = 3.0  # so do those within so many standard errors


@dataclass(frozen=True)
class Goodness:
    """A fitted law against held-out increments of thinned, disjoint cells."""

    deviations: float  # the statistic above its null mean, in null deviations
    p_value: float
    n: int


@dataclass(frozen=True)
class Side:
    """Cells of `side` times the stencil's steps.

    If increments are independent, `variance`, over the volume's, is 1, `kurtosis` falls as
    1 / volume, and neither the increments of neighboring cells (`neighbors`) nor their squared
    norms (`energies`) correlate; these two are None where two cells don't fit.
    """

    side: int
    volume: int  # over that of the stencil
    variance: Estimate
    kurtosis: Estimate
    neighbors: Estimate | None
    energies: Estimate | None


@dataclass(frozen=True)
class JumpStatistics:
    """What the better of the laws with discrete jumps says."""

    family: str
    law: Law
    share: float  # of cells that hold a jump, from all directions together
    expected: float  # by the law
    together: Estimate  # correlation of P(jump) between two directions of a cell
    channels: Estimate  # between two of the model's own channels, brought to one variance
    isotropic: float  # either if the law holds, whose jumps strike all directions
    maps: np.ndarray  # (SHOWN, h, w) P(jump) of the first images


@dataclass(frozen=True)
class Control:
    """Other increments through the same procedure."""

    kurtosis: Estimate
    gain: Estimate | None  # of the normal inverse Gaussian law over the Gaussian
    neighbors: Estimate | None
    energies: Estimate | None


@dataclass(frozen=True)
class Finding:
    """One layer and one stencil."""

    layer: str
    stencil: str
    volume: float  # of its cells
    cells: int  # in each image
    variance: float  # for a unit volume; 1 on average over the layer's stencils
    spread: float  # of the variance over directions: deviation by mean
    fixed: float  # share of the variance that all images have in common, place by place
    kurtosis: Estimate
    choice: Choice
    goodness: Goodness
    goodness_of_gaussian: Goodness
    jumps: JumpStatistics | None  # None where every cell holds many
    sides: tuple[Side, ...]
    gaussian: Control  # Gaussian increments of the tokens' covariance over directions
    shuffled: Control  # the tokens shuffled over places and images: white noise
    sample: np.ndarray  # held-out increments

    @property
    def jumps_clear(self) -> bool:
        """Whether a law with jumps is chosen, and tails exceed those of the Gaussian control.

        Directions of unequal variance alone, as in that control, look like heavy tails.
        """
        error = np.hypot(self.kurtosis.error, self.gaussian.kurtosis.error)
        excess = self.kurtosis.value - self.gaussian.kurtosis.value
        return self.choice.chosen.family != GAUSSIAN and bool(excess > ERRORS * error)

    @property
    def fits(self) -> bool:
        """Whether held-out increments do not reject the chosen law."""
        return self.goodness.p_value >= LEVEL

    @property
    def independent(self) -> bool:
        """Whether cells of every side behave as disjoint cells of a Lévy process do.

        Neighbors correlate neither in their increments nor in their squared norms (by at most .05
        or three standard errors), and variance grows as the volume (within 10 % or three).
        """
        zeros = [e for side in self.sides for e in (side.neighbors, side.energies) if e]
        ones = [side.variance for side in self.sides]
        return all(abs(e.value) <= max(CLOSE, ERRORS * e.error) for e in zeros) and all(
            abs(e.value - 1) <= max(2 * CLOSE, ERRORS * e.error) for e in ones
        )

    @property
    def follows(self) -> bool:
        """Whether nothing that was measured speaks against a Lévy law."""
        return self.fits and self.independent


def measure(
    fields: Mapping[str, Tensor],
    stencils: Sequence[Stencil],
    seed: int,
    progress: Callable[[str], None],
) -> list[Finding]:
    """Measure every layer with every stencil; see `diagnose`, whose arguments these are."""
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
            findings.append(_measure(layer, turned, own, shuffled, stencil, generator))
    return findings


def stencil_name(stencil: Stencil) -> str:
    """Return "box", "diamond × 2", "lines down" or the like; the steps if it is none of them."""
    side = max(abs(n) for n in stencil.steps[0])
    known = {"box": box(2, side), "diamond": diamond(side)}
    known |= {"lines down": line(2, 0, side), "lines across": line(2, 1, side)}
    name = next((n for n, other in known.items() if other.steps == stencil.steps), None)
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
                f"{layer} has {got}; use larger images or another stencil."
            )


def _turned(
    layer: str, field: Tensor, stencils: Sequence[Stencil], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Tokens (N, h, w, K) along random directions, at the layer's own scale; in K own channels."""
    width = field.shape[-1]
    square = torch.randn(width, width, generator=generator, dtype=torch.float64)
    directions = torch.linalg.qr(square)[0][:, : min(DIRECTIONS, width)]
    turned = (field.double() - field.double().mean((0, 1, 2))) @ directions
    sizes = [increments(turned, s).square().mean() / s.volume for s in stencils]
    scale = torch.stack(sizes).mean().sqrt()
    if not scale > 1e-6 * field.abs().max():
        raise ValueError(f"{layer} must vary over its grid, got the same token everywhere.")
    for stencil, size in zip(stencils, sizes, strict=True):
        if not size > 1e-9 * scale**2:
            raise ValueError(f"{layer} must vary over the {stencil_name(stencil)}, got no change.")
    channels = torch.randperm(width, generator=generator)[:DIRECTIONS]
    return turned / scale, field[..., channels].double()


def _measure(
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
    fitted_to, new = (_drawn(steps[half][:, tiles], generator) for half in (train, test))
    choice = choose(fitted_to, new, volume)
    chosen, plain = choice.chosen, choice.of(GAUSSIAN)
    assert plain is not None
    thin = _thinned(steps[test][:, tiles], generator)
    goodness = _goodness(thin, chosen.law, volume, generator)
    variance = steps.square().mean((0, 1))
    common = steps.mean(0).square().mean()  # 1 / n of what differs is in it
    fixed = (common / variance.mean() - 1 / n) / (1 - 1 / n)
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
    test = goodness_of_fit(x, law, volume, generator)
    expected = null(law, volume, equispaced(law, 64, volume), {1.0: len(x)})
    deviations = (test.statistic - float(expected.mean)) / float(expected.std)
    return Goodness(deviations, test.p_value, len(x))


def _covariance(steps: Tensor) -> Tensor:
    flat = steps.flatten(0, 1)
    covariance = flat.T @ flat / len(flat)
    ridge = 1e-9 * covariance.diagonal().mean()  # of directions in which nothing varies
    return covariance + ridge * torch.eye(len(covariance), dtype=steps.dtype)


def _side(field: Tensor, stencil: Stencil, side: int) -> Side | None:
    larger = Stencil.from_steps([tuple(side * n for n in step) for step in stencil.steps])
    if any(n <= e for n, e in zip(field.shape[1:3], larger.extent, strict=True)):
        return None
    large, small = increments(field, larger), increments(field, stencil)
    ratio = side ** len(stencil.steps)
    moments = [steps.square().mean((1, 2)) for steps in (large, small)]
    return Side(
        side,
        ratio,
        jackknife(moments, lambda many, one: many / one / ratio),
        kurtosis(large),
        *neighbors(large, larger, field.shape[1:3]),
    )


def _jumps(
    steps: Tensor,
    own: Tensor,
    choice: Choice,
    stencil: Stencil,
    grid: Sequence[int],
    generator: torch.Generator,
) -> JumpStatistics | None:
    usable = [c for c in choice.candidates if c.family in JUMPS]
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
    return JumpStatistics(
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
    train, test = (_drawn(half, generator) for half in steps.tensor_split(2))
    families = {name: FAMILIES[name] for name in (GAUSSIAN, NIG)}
    heavy = choose(train, test, stencil.volume, families).of(NIG)
    gain = None if heavy is None else heavy.gain
    return Control(kurtosis(steps), gain, *neighbors(steps, stencil, grid))
