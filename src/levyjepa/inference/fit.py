"""Fit the parameters of a law to increments."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from levyjepa import checks
from levyjepa.ecf import equispaced, statistic
from levyjepa.inference.density import (
    check_finite,
    constant,
    density_table,
    has_density,
    log_density,
)
from levyjepa.laws import Law


@dataclass(frozen=True)
class Fit:
    """A fitted law. Attributes of the law are available too: `fit.sigma` is `fit.law.sigma`.

    Args:
        law: The fitted law, with constant parameters.
        parameters: Values by name, such as "laws.0.sigma".
        standard_errors: Standard errors by name, infinite for parameters that the samples do not
            identify. Empty for method="ecf".
        log_likelihood: Sum over all samples. None for method="ecf".
        n: Number of samples.
    """

    law: Law
    parameters: dict[str, float]
    standard_errors: dict[str, float]
    log_likelihood: float | None
    n: int

    def __getattr__(self, name: str) -> Any:
        if name == "law" or name.startswith("__"):  # not set yet, for example while copying
            raise AttributeError(name)
        return getattr(self.law, name)


def fit(samples: Tensor, law: Law, volume: float = 1.0, method: str = "likelihood") -> Fit:
    """Fit a law's parameters to independent scalar increments.

    method="likelihood" maximizes the likelihood with the density of `log_density`. It computes
    standard errors from the observed information. method="ecf" minimizes the distance
    `levyjepa.ecf.statistic`. It works for laws without a density or a density table, and gives no
    standard errors. The search starts at the parameters of `law`, or at parameters that match the
    width of the samples if they fit better.

    Args:
        samples: Finite floating-point increments of any shape, at least 10 per parameter.
        law: The family of laws, and a starting point of the search. It is not modified.
        volume: Volume of the cells.
        method: "likelihood" or "ecf".

    Returns:
        The fitted law with its parameters and their standard errors.

    Raises:
        ValueError: There are too few samples, or they are not finite, or all are 0. The method is
            unknown. The law has no density and the method is "likelihood".

    Warns:
        UserWarning: The mean of the samples is more than 6 standard errors from 0, the center of
            every law, or samples are exactly 0, which a law with a density never gives.

    >>> from levyjepa.laws import Brownian
    >>> x = Brownian(0.5).sample((4000,), generator=torch.Generator().manual_seed(0))
    >>> result = fit(x, Brownian(1.0))
    >>> abs(result.sigma - 0.5) < 3 * result.standard_errors["sigma"]
    True
    """
    x = check_finite(samples).detach().double().cpu().flatten()
    volume = checks.positive("volume", volume)
    trained = constant(law).learnable_copy().double()
    names, raw = zip(*trained.named_parameters(), strict=True)
    if not x.any():
        raise ValueError("`samples` must not all be 0.")
    if len(x) < 10 * len(raw):
        raise ValueError(f"`samples` must be at least {10 * len(raw)} numbers, got {len(x)}.")
    if method not in ("likelihood", "ecf"):
        raise ValueError(f"`method` must be 'likelihood' or 'ecf', got {method!r}.")
    if method == "likelihood":
        log_density(x[:1], trained, volume)  # raises if the law has no density
    _warn_if_unlikely(x, law, volume)

    initial, largest = _get(raw), x.abs().max().item()
    rescaled = _rescaled(x, trained, volume, raw)
    _set(raw, rescaled)
    rule = equispaced(trained, 64, volume)

    def loss() -> Tensor:
        if method == "likelihood":
            return -density_table(trained, volume, largest).at(x).mean()
        return statistic(x[None], trained, volume, rule).sum() * len(x) / rule.weights.sum()

    start = min((initial, rescaled), key=lambda at: _evaluate(loss, raw, at)[0])
    optimum = _minimize(loss, raw, start)
    _set(raw, optimum)
    deviations, likelihood = None, None
    if method == "likelihood":
        likelihood = log_density(x, trained, volume).sum().item()
        deviations = _deviations(len(x) * _hessian(loss, raw, optimum))
        _set(raw, optimum)
    parameters, errors = {}, {}
    for k, (name, parameter) in enumerate(zip(names, raw, strict=True)):
        path, _, raw_name = name.rpartition(".")  # "log_sigma"
        attribute = raw_name.partition("_")[2]
        value = getattr(trained.get_submodule(path), attribute)
        key = f"{path}.{attribute}".lstrip(".")
        parameters[key] = value.item()
        if deviations is not None:
            (slope,) = torch.autograd.grad(value, parameter)
            errors[key] = abs(slope.item()) * float(deviations[k])
    return Fit(constant(trained), parameters, errors, likelihood, len(x))


def _warn_if_unlikely(x: Tensor, law: Law, volume: float) -> None:
    mean, error = x.mean().item(), x.std().item() / len(x) ** 0.5
    if abs(mean) > 6 * error:
        warnings.warn(
            f"`samples` should be centered at 0, as increments are. Their mean is {mean:.3g}, "
            f"with a standard error of {error:.2g}.",
            stacklevel=3,
        )
    zeros = int((x == 0).sum())
    if zeros and has_density(law, volume):
        warnings.warn(
            f"`samples` hold {zeros} exact zeros, which {law!r} never gives. Leave them out, or "
            "fit a CompoundPoisson law by method='ecf'.",
            stacklevel=3,
        )


Loss = Callable[[], Tensor]


def _rescaled(x: Tensor, law: Law, volume: float, raw: Sequence[Tensor]) -> np.ndarray:
    """Return raw parameters for which the law has the width of the samples and its old shape.

    The law of s x has the exponent psi(s u). A least-squares fit gives the direction in parameter
    space in which log(-psi) changes as it does along log u. The parameters are returned unchanged
    if the law cannot be sampled, or if a derivative is not finite.
    """
    generator = torch.Generator().manual_seed(0)
    try:
        y = law.sample((1024,), volume, None, generator, x.dtype)
    except ValueError:  # too many jumps
        return _get(raw)
    if not y.any():
        return _get(raw)
    sample_width, law_width = (values[values != 0].abs().median() for values in (x, y))
    u = (torch.logspace(-2, 2, 32, dtype=x.dtype) / law_width).requires_grad_()
    log_psi = (-law.exponent(u)).log()
    (slope,) = torch.autograd.grad(log_psi.sum(), u, retain_graph=True)
    rows = [torch.autograd.grad(entry, raw, retain_graph=True) for entry in log_psi]
    jacobian = np.array([[part.item() for part in row] for row in rows])
    target = (slope * u).detach().numpy()
    if not (np.isfinite(jacobian).all() and np.isfinite(target).all()):
        return _get(raw)
    direction = np.linalg.lstsq(jacobian, target, rcond=1e-6)[0]
    return _get(raw) + math.log(sample_width / law_width) * direction


def _get(raw: Sequence[Tensor]) -> np.ndarray:
    return np.array([parameter.item() for parameter in raw])


def _set(raw: Sequence[Tensor], values: np.ndarray) -> None:
    """Set the raw parameters, clamped so that exp of them is a normal float."""
    with torch.no_grad():
        for parameter, value in zip(raw, values, strict=True):
            parameter.fill_(min(max(float(value), -690.0), 690.0))


def _evaluate(loss: Loss, raw: Sequence[Tensor], at: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the loss and its gradient at the raw parameters `at`."""
    _set(raw, at)
    value = loss()
    gradient = torch.autograd.grad(value, raw)
    return value.item(), np.array([part.item() for part in gradient])


def _minimize(loss: Loss, raw: Sequence[Tensor], start: np.ndarray) -> np.ndarray:
    """Minimize in a box of +-7 around the start, which follows the minimum to its boundary."""
    for _ in range(12):
        result: Any = minimize(
            lambda at: _evaluate(loss, raw, at),
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=[(value - 7, value + 7) for value in start],
            options={"ftol": 1e-10, "gtol": 1e-6},
        )
        distance, start = np.abs(result.x - start).max(), result.x
        if distance < 6.99:
            break
    return start


def _hessian(loss: Loss, raw: Sequence[Tensor], at: np.ndarray, h: float = 1e-4) -> np.ndarray:
    """Return the Hessian by central differences of the gradient."""
    steps = h * np.eye(len(at))
    ends = [[_evaluate(loss, raw, at + sign * step)[1] for sign in (1, -1)] for step in steps]
    hessian = np.array([(up - down) / (2 * h) for up, down in ends])
    return (hessian + hessian.T) / 2


def _deviations(information: np.ndarray) -> np.ndarray:
    """Return standard deviations, infinite for parameters that are not identified."""
    if not np.isfinite(information).all():
        return np.full(len(information), np.inf)
    values, vectors = np.linalg.eigh(information)
    identified = values > 1e-9 * values.max()
    with np.errstate(divide="ignore"):
        variance = (vectors**2 / np.where(identified, values, np.inf)).sum(1)
    unidentified = (vectors[:, ~identified] ** 2).sum(1) > 1e-6
    return np.where(unidentified, np.inf, np.sqrt(variance))
