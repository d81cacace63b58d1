"""Fit a law to increments."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from levyjepa import checks
from levyjepa.ecf import equispaced, statistic
from levyjepa.inference.density import log_density
from levyjepa.laws import Law, parse


@dataclass(frozen=True)
class Fit:
    """A fitted law.

    `parameters` and `standard_errors` are by name, as "laws.0.sigma"; the errors are empty for a
    fit by distance. `log_likelihood` is the total over the `n` samples, None where the law has no
    density.
    """

    law: Law
    parameters: dict[str, float]
    standard_errors: dict[str, float]
    log_likelihood: float | None
    n: int


def fit(samples: Tensor, law: Law, volume: float = 1.0, method: str = "likelihood") -> Fit:
    """Fit a law's parameters to independent scalar increments.

    Maximum likelihood with the density of `log_density`, standard errors from the observed
    information; or, for laws without a density too, the least distance `levyjepa.ecf.statistic`.

    Args:
        samples: increments, any shape, floating point, at least 10 for each parameter.
        law: where the search begins; it is not changed.
        volume: of their cells.
        method: "likelihood" or "ecf".

    Raises:
        ValueError: too few samples, not finite or all 0, an unknown method, a law without a
            density for "likelihood".

    >>> from levyjepa.laws import Brownian
    >>> x = Brownian(0.5).sample((4000,), generator=torch.Generator().manual_seed(0))
    >>> found = fit(x, Brownian(1.0))
    >>> abs(found.parameters["sigma"] - 0.5) < 3 * found.standard_errors["sigma"]
    True
    """
    checks.floating("samples", samples)
    x = samples.detach().double().cpu().flatten()
    trained = law.learnable_copy().double()
    names, raw = zip(*trained.named_parameters(), strict=True)
    if not x.isfinite().all() or not x.abs().max() > 0:
        raise ValueError("`samples` must be finite and not all 0.")
    if len(x) < 10 * len(raw):
        raise ValueError(f"`samples` must be at least {10 * len(raw)}, got {len(x)}.")
    if method not in ("likelihood", "ecf"):
        raise ValueError(f"`method` must be likelihood or ecf, got {method!r}.")
    rule = equispaced(law, 64, volume)

    def loss() -> Tensor:
        if method == "likelihood":
            return -log_density(x, trained, volume).mean()
        return statistic(x[None], trained, volume, rule).sum()

    def evaluate(values: np.ndarray) -> tuple[float, np.ndarray]:
        with torch.no_grad():
            for parameter, value in zip(raw, values, strict=True):
                parameter.fill_(float(value))
        found = loss()
        gradient = torch.autograd.grad(found, raw)
        return found.item(), np.array([g.item() for g in gradient])

    start = np.array([parameter.item() for parameter in raw])
    box = [(value - 7, value + 7) for value in start]
    best: Any = minimize(evaluate, start, jac=True, method="L-BFGS-B", bounds=box)
    errors: dict[str, float] = {}
    likelihood = None
    if method == "likelihood":
        likelihood = -best.fun * len(x)
        information = len(x) * _hessian(lambda v: evaluate(v)[1], best.x)
        spread = np.sqrt(np.clip(np.diag(np.linalg.pinv(information)), 0, np.inf))
    evaluate(best.x)
    values = {}
    for n, (name, parameter) in enumerate(zip(names, raw, strict=True)):
        public, module = _public(name), trained.get_submodule(name.rpartition(".")[0])
        value = getattr(module, public.rpartition(".")[2])
        values[public] = value.item()
        if method == "likelihood":
            (slope,) = torch.autograd.grad(value, parameter)
            errors[public] = abs(slope.item()) * float(spread[n])
    fitted = parse(repr(trained).replace(", learnable=True", ""))
    return Fit(fitted, values, errors, likelihood, len(x))


def _public(name: str) -> str:
    stem, _, last = name.rpartition(".")
    return f"{stem}.{last.partition('_')[2]}".lstrip(".")


def _hessian(gradient: Any, at: np.ndarray, h: float = 1e-4) -> np.ndarray:
    rows = [(gradient(at + h * e) - gradient(at - h * e)) / (2 * h) for e in np.eye(len(at))]
    hessian = np.array(rows)
    if not np.isfinite(hessian).all():
        return np.full_like(hessian, math.nan)
    return (hessian + hessian.T) / 2
