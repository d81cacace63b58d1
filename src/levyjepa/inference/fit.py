"""Fit a law to increments."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from levyjepa import checks
from levyjepa.ecf import equispaced, statistic
from levyjepa.inference.density import density_table, finite, log_density, plain
from levyjepa.laws import Law


@dataclass(frozen=True)
class Fit:
    """A fitted law, whose attributes are its own too: `found.sigma` is `found.law.sigma`.

    `parameters` and `standard_errors` are by name, as "laws.0.sigma". An error is infinite where
    the samples do not tell a parameter; there are none for a fit by distance. `log_likelihood` is
    the total over the `n` samples, None for a fit by distance.
    """

    law: Law
    parameters: dict[str, float]
    standard_errors: dict[str, float]
    log_likelihood: float | None
    n: int

    def __getattr__(self, name: str) -> Any:
        if name == "law" or name.startswith("__"):  # not yet set, as while it is copied
            raise AttributeError(name)
        return getattr(self.law, name)


def fit(samples: Tensor, law: Law, volume: float = 1.0, method: str = "likelihood") -> Fit:
    """Fit a law's parameters to independent scalar increments.

    Maximum likelihood with the density of `log_density`, standard errors from the observed
    information; or the least distance `levyjepa.ecf.statistic`, for laws too that have no density
    or none that can be tabulated, without standard errors. The search begins at the given
    parameters, or where the law is as wide as the samples if that is better.

    Args:
        samples: increments, any shape, finite, floating point, at least 10 for each parameter.
        law: the family, and where the search may begin; it is not changed.
        volume: of their cells.
        method: "likelihood" or "ecf".

    Raises:
        ValueError: too few samples, not finite or all 0, an unknown method, a law without a
            density for "likelihood".

    >>> from levyjepa.laws import Brownian
    >>> x = Brownian(0.5).sample((4000,), generator=torch.Generator().manual_seed(0))
    >>> found = fit(x, Brownian(1.0))
    >>> abs(found.sigma - 0.5) < 3 * found.standard_errors["sigma"]
    True
    """
    x = finite(samples).detach().double().cpu().flatten()
    volume = checks.positive("volume", volume)
    trained = plain(law).learnable_copy().double()
    names, raw = zip(*trained.named_parameters(), strict=True)
    if not x.any():
        raise ValueError("`samples` must not all be 0.")
    if len(x) < 10 * len(raw):
        raise ValueError(f"`samples` must be at least {10 * len(raw)}, got {len(x)}.")
    if method not in ("likelihood", "ecf"):
        raise ValueError(f"`method` must be likelihood or ecf, got {method!r}.")
    if method == "likelihood":
        log_density(x[:1], trained, volume)  # raises where there is none

    given = _values(raw)
    scaled = _scaled(x, trained, volume, raw)
    _values(raw, scaled)
    rule = equispaced(trained, 64, volume)

    def loss() -> Tensor:
        if method == "likelihood":
            return -density_table(trained, volume).at(x).mean()
        return statistic(x[None], trained, volume, rule).sum() * len(x) / rule.weights.sum()

    start = min((given, scaled), key=lambda at: _evaluate(loss, raw, at)[0])
    found = _minimum(loss, raw, start)
    _values(raw, found)
    spread, likelihood = None, None
    if method == "likelihood":
        likelihood = log_density(x, trained, volume).sum().item()
        spread = _deviations(len(x) * _hessian(loss, raw, found))
        _values(raw, found)
    parameters, errors = {}, {}
    for k, (name, parameter) in enumerate(zip(names, raw, strict=True)):
        path, _, stored = name.rpartition(".")
        short = stored.partition("_")[2]
        value = getattr(trained.get_submodule(path), short)
        public = f"{path}.{short}".lstrip(".")
        parameters[public] = value.item()
        if spread is not None:
            (slope,) = torch.autograd.grad(value, parameter)
            errors[public] = abs(slope.item()) * float(spread[k])
    return Fit(plain(trained), parameters, errors, likelihood, len(x))


Loss = Callable[[], Tensor]


def _scaled(x: Tensor, law: Law, volume: float, raw: Sequence[Tensor]) -> np.ndarray:
    """The parameters with which the law is as wide as the samples and keeps its shape.

    The law of s x has the exponent psi(s u): the parameters move as log(-psi) does along log u.
    They stay where they are if the law cannot be sampled, or has no slopes to follow.
    """
    generator = torch.Generator().manual_seed(0)
    try:
        y = law.sample((1024,), volume, None, generator, x.dtype)
    except ValueError:  # too many jumps
        return _values(raw)
    if not y.any():
        return _values(raw)
    wide, width = (sizes[sizes != 0].abs().median() for sizes in (x, y))
    u = (torch.logspace(-2, 2, 32, dtype=x.dtype) / width).requires_grad_()
    log_psi = (-law.exponent(u)).log()
    (slope,) = torch.autograd.grad(log_psi.sum(), u, retain_graph=True)
    rows = [torch.autograd.grad(entry, raw, retain_graph=True) for entry in log_psi]
    jacobian = np.array([[part.item() for part in row] for row in rows])
    along = (slope * u).detach().numpy()
    if not (np.isfinite(jacobian).all() and np.isfinite(along).all()):
        return _values(raw)
    way = np.linalg.lstsq(jacobian, along, rcond=1e-6)[0]
    return _values(raw) + math.log(wide / width) * way


def _values(raw: Sequence[Tensor], new: np.ndarray | None = None) -> np.ndarray:
    """What the parameters hold, after they were set to `new`; exp of which a float holds."""
    with torch.no_grad():
        for parameter, value in zip(raw, [] if new is None else new, strict=new is not None):
            parameter.fill_(min(max(float(value), -690.0), 690.0))
    return np.array([parameter.item() for parameter in raw])


def _evaluate(loss: Loss, raw: Sequence[Tensor], at: np.ndarray) -> tuple[float, np.ndarray]:
    _values(raw, at)
    found = loss()
    gradient = torch.autograd.grad(found, raw)
    return found.item(), np.array([part.item() for part in gradient])


def _minimum(loss: Loss, raw: Sequence[Tensor], start: np.ndarray) -> np.ndarray:
    """Descend in a box of e^7 either way, moved on while its edge is reached."""
    for _ in range(12):
        found: Any = minimize(
            lambda at: _evaluate(loss, raw, at),
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=[(value - 7, value + 7) for value in start],
            options={"ftol": 1e-10, "gtol": 1e-6},
        )
        moved, start = np.abs(found.x - start).max(), found.x
        if moved < 6.99:
            break
    return start


def _hessian(loss: Loss, raw: Sequence[Tensor], at: np.ndarray, h: float = 1e-4) -> np.ndarray:
    steps = h * np.eye(len(at))
    ends = [[_evaluate(loss, raw, at + sign * step)[1] for sign in (1, -1)] for step in steps]
    hessian = np.array([(up - down) / (2 * h) for up, down in ends])
    return (hessian + hessian.T) / 2


def _deviations(information: np.ndarray) -> np.ndarray:
    """Standard deviations, infinite along what the information leaves open."""
    if not np.isfinite(information).all():
        return np.full(len(information), np.inf)
    values, vectors = np.linalg.eigh(information)
    told = values > 1e-9 * values.max()
    with np.errstate(divide="ignore"):
        variance = (vectors**2 / np.where(told, values, np.inf)).sum(1)
    open_ = (vectors[:, ~told] ** 2).sum(1) > 1e-6
    return np.where(open_, np.inf, np.sqrt(variance))
