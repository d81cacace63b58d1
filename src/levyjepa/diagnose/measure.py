"""What one layer and stencil says: its law, its jumps, its independence, its controls."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from levyjepa.checks import floating
from levyjepa.diagnose.families import FAMILIES, GAUSSIAN, JUMPS, NIG, Candidate, choose
from levyjepa.diagnose.moments import Estimate, jackknife, kurtosis, neighbors, together
from levyjepa.ecf import equispaced, null
from levyjepa.inference import goodness_of_fit, jump_probability
from levyjepa.lattice import Stencil, box, diamond, increments, line, room
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

Row = dict[str, Any]  # numbers and texts, nested


@dataclass(frozen=True)
class PictureData:
    """What pictures of one layer and stencil need beside the numbers."""

    sample: np.ndarray  # held-out increments
    volume: float
    laws: dict[str, Law]
    maps: np.ndarray | None  # (SHOWN, h, w) P(jump) of the first images


def measure(
    fields: Mapping[str, Tensor],
    stencils: Sequence[Stencil],
    seed: int,
    progress: Callable[[str], None],
) -> list[tuple[Row, PictureData]]:
    """Measure every layer with every stencil; see `diagnose`, whose arguments these are."""
    if not fields or not stencils:
        raise ValueError("`fields` and `stencils` must hold one at least, got none.")
    for layer, field in fields.items():
        floating(layer, field, 4, "(N, h, w, C)")
        if len(field) < LEAST:
            raise ValueError(f"At least {LEAST} images are needed, got {len(field)}.")
        if not field.isfinite().all():
            raise ValueError(f"{layer} must be finite, got NaN or infinite tokens.")
        for stencil in stencils:
            room(stencil, field.shape[1:3])
    results = []
    for layer, field in fields.items():
        generator = Generator().manual_seed(seed)
        turned, own = _turned(layer, field, stencils, generator)
        order = torch.randperm(turned[..., 0].numel(), generator=generator)
        shuffled = turned.flatten(0, 2)[order].view(turned.shape)
        for stencil in stencils:
            progress(f"{layer}, {stencil_name(stencil)}")
            row, data = _measure(turned, own, shuffled, stencil, generator)
            results.append(({"layer": layer, "stencil": stencil_name(stencil), **row}, data))
    return results


def stencil_name(stencil: Stencil) -> str:
    """Return "box", "diamond × 2", "lines down" or the like; the steps if it is none of them."""
    side = max(abs(n) for n in stencil.steps[0])
    known = {"box": box(2, side), "diamond": diamond(side)}
    known |= {"lines down": line(2, 0, side), "lines across": line(2, 1, side)}
    name = next((n for n, other in known.items() if other.steps == stencil.steps), None)
    return str(stencil.steps) if name is None else name + f" × {side}" * (side > 1)


def _turned(
    layer: str, field: Tensor, stencils: Sequence[Stencil], generator: Generator
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
    field: Tensor, own: Tensor, shuffled: Tensor, stencil: Stencil, generator: Generator
) -> tuple[Row, PictureData]:
    grid, volume, steps = field.shape[1:3], stencil.volume, increments(field, stencil)
    halves = torch.randperm(len(field), generator=generator).tensor_split(2)
    train, test = (increments(field[half], stencil, disjoint=True) for half in halves)
    fitted_to, new = _drawn(train, generator), _drawn(test, generator)
    chosen, candidates = choose(fitted_to, new, volume)
    plain = next(c for c in candidates if c.family == GAUSSIAN)
    thin = _thinned(test, generator)
    goodness = goodness_of_plain = _goodness(thin, chosen.law, volume, generator)
    flat = steps.flatten(0, 1)
    covariance = flat.T @ flat / len(flat)
    ridge = 1e-9 * covariance.diagonal().mean()  # of directions in which nothing varies
    root = torch.linalg.cholesky(covariance + ridge * torch.eye(len(covariance)).to(flat))
    noise = torch.randn(steps.shape, generator=generator, dtype=steps.dtype) @ root.T
    if chosen is not plain:
        goodness_of_plain = _goodness(thin, plain.law, volume, generator)
    jumps, maps = _jumps(steps, increments(own, stencil), candidates, stencil, grid, generator)
    gaussian = _control(noise, stencil, grid, generator)
    tails, control = kurtosis(steps), gaussian["kurtosis"]
    excess = tails["value"] - control["value"]
    sides = _sides(field, stencil)
    zeros = [side[k] for side in sides.values() for k in ("neighbors", "energies") if k in side]
    ones = [side["variance"] for side in sides.values()]
    independent = _near(zeros, 0, CLOSE) and _near(ones, 1, 2 * CLOSE)
    variance = steps.square().mean((0, 1))
    common, n = steps.mean(0).square().mean() / variance.mean(), len(steps)
    laws = {c.family: asdict(c) | {"law": repr(c.law)} for c in candidates}
    row = {
        "volume": volume,
        "cells": steps.shape[1],  # in each image
        "variance": float(variance.mean()) / volume,  # 1 on average over the layer's stencils
        "spread": float(variance.std(correction=0) / variance.mean()),  # over directions
        # What all images have in common, place by place; 1 / n of what differs is in it.
        "fixed": max(0.0, float((common - 1 / n) / (1 - 1 / n))),
        "kurtosis": tails,
        "chosen": laws[chosen.family],
        "candidates": laws,  # by gain
        "failed": [name for name in FAMILIES if name not in laws],
        "goodness": goodness,
        "goodness_of_gaussian": goodness_of_plain,
        "jumps": jumps,  # empty where every cell holds many
        "sides": sides,
        "gaussian": gaussian,  # Gaussian increments of the tokens' covariance over directions
        "shuffled": _control(increments(shuffled, stencil), stencil, grid, generator),
        # Directions of unequal variance alone, as in the control, look like heavy tails.
        "jumps_clear": chosen is not plain
        and bool(excess > ERRORS * np.hypot(tails["error"], control["error"])),
        "independent": independent,
        "follows": independent and goodness["p_value"] >= LEVEL,
    }
    shown = {"Gaussian": plain.law, "chosen law": chosen.law}
    return row, PictureData(new.flatten().float().numpy(), volume, shown, maps)


def _drawn(steps: Tensor, generator: Generator) -> Tensor:
    """Equally many increments of each image, from all places and directions: (I, m)."""
    flat = steps.flatten(1)
    m = min(flat.shape[1], SAMPLES // len(flat) + 1)
    places = [torch.randperm(flat.shape[1], generator=generator)[:m] for _ in flat]
    return flat.gather(1, torch.stack(places))


def _thinned(steps: Tensor, generator: Generator) -> Tensor:
    """Of a few cells of each image, one direction each."""
    parts = []
    for image in steps:
        cells = torch.randperm(len(image), generator=generator)[:THIN]
        parts.append(image[cells, torch.randint(image.shape[1], cells.shape, generator=generator)])
    return torch.cat(parts)


def _goodness(x: Tensor, law: Law, volume: float, generator: Generator) -> Row:
    """How far held-out increments are from a law, in deviations of the null, and its p-value."""
    test = goodness_of_fit(x, law, volume, generator)
    expected = null(law, volume, equispaced(law, 64, volume), {1.0: len(x)})
    deviations = (test.statistic - float(expected.mean)) / float(expected.std)
    return {"deviations": deviations, "p_value": test.p_value, "n": len(x)}


def _sides(field: Tensor, stencil: Stencil) -> dict[str, Row]:
    """Cells of a multiple of the stencil's steps, as far as they fit.

    If increments are independent, their variance over the volume's is 1, and neither those of
    neighboring cells nor their squared norms correlate.
    """
    sides, small, grid = {}, increments(field, stencil), field.shape[1:3]
    for side in SIDES:
        larger = Stencil.from_steps([tuple(side * n for n in step) for step in stencil.steps])
        if any(n <= e for n, e in zip(grid, larger.extent, strict=True)):
            break
        large, ratio = increments(field, larger), side ** len(stencil.steps)
        moments = [steps.square().mean((1, 2)) for steps in (large, small)]
        sides[str(side)] = {
            "volume": ratio,
            "variance": jackknife(moments, lambda many, one: many / one / ratio),  # noqa: B023
            "kurtosis": kurtosis(large),
            **neighbors(large, larger, grid),
        }
    return sides


def _near(estimates: Sequence[Estimate], target: float, close: float) -> bool:
    return all(abs(e["value"] - target) <= max(close, ERRORS * e["error"]) for e in estimates)


def _jumps(
    steps: Tensor,
    own: Tensor,
    candidates: Sequence[Candidate],
    stencil: Stencil,
    grid: Sequence[int],
    generator: Generator,
) -> tuple[Row, np.ndarray | None]:
    """What the better law with discrete jumps says of cells and channels, and maps of P(jump)."""
    best = next((c for c in candidates if c.family in JUMPS), None)
    volume, k = stencil.volume, steps.shape[-1]
    if best is None or k < 2:
        return {}, None
    law, expected = best.law, best.parameters["laws.1.rate"]["value"] * volume
    if expected > MANY:
        return {}, None
    sizes = own.square().mean((0, 1))
    alive = sizes > 1e-9 * sizes.max()
    own = own[..., alive] * (steps.square().mean() / sizes[alive]).sqrt()
    every = jump_probability(steps, law, volume, isotropic=True)
    drawn = law.sample((2, 20_000), volume, k, generator, steps.dtype)
    row = {
        "family": best.family,
        "law": repr(law),
        "share": float(every.mean()),  # of cells that hold a jump, from all directions together
        "expected": -float(np.expm1(-expected)),  # by the law
        "together": together(jump_probability(steps, law, volume)),  # of two directions of a cell
        "channels": together(jump_probability(own, law, volume)),  # of the model's own
        "isotropic": together(jump_probability(drawn, law, volume))["value"],  # by the law
    }
    return row, every[:SHOWN].unflatten(1, room(stencil, grid)).float().numpy()


def _control(steps: Tensor, stencil: Stencil, grid: Sequence[int], generator: Generator) -> Row:
    """Other increments through the same procedure."""
    train, test = (_drawn(half, generator) for half in steps.tensor_split(2))
    families = {name: FAMILIES[name] for name in (GAUSSIAN, NIG)}
    candidates = choose(train, test, stencil.volume, families)[1]
    gain = next(({"gain": c.gain} for c in candidates if c.family == NIG), {})
    return {"kurtosis": kurtosis(steps), **gain, **neighbors(steps, stencil, grid)}
