"""Which law increments follow: fitted on one half of the images, compared on the other."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from levyjepa import laws
from levyjepa.diagnose.moments import Estimate
from levyjepa.inference import Fit, fit, log_density
from levyjepa.inference.density import density_table
from levyjepa.laws import Law

GAUSSIAN, NIG = "Gaussian", "normal inverse Gaussian"
FAMILIES: dict[str, Law] = {
    GAUSSIAN: laws.Brownian(1.0),
    NIG: laws.NormalInverseGaussian(1.5, 1.5),
    "variance gamma": laws.VarianceGamma(1.5, 1.5),
    "stable": laws.Stable(1.8, 0.7),
    "Gaussian jumps": laws.Brownian(0.7) + laws.CompoundPoisson(0.3, laws.GaussianJumps(1.3)),
    "Laplace jumps": laws.Brownian(0.7) + laws.CompoundPoisson(0.5, laws.LaplaceJumps(1.4)),
}
JUMPS = ("Gaussian jumps", "Laplace jumps")  # a cell holds a finite number of their jumps
ERRORS, LEAST_GAIN = 2.0, 1e-4  # a richer law must be better by so many errors, and by this


@dataclass(frozen=True)
class Candidate:
    """A law fitted to one half of the images and scored on the other."""

    family: str
    law: Law
    parameters: dict[str, Estimate]
    gain: Estimate  # of held-out log likelihood for each increment, over the Gaussian


def choose(
    train: Tensor, test: Tensor, volume: float, families: Mapping[str, Law] = FAMILIES
) -> tuple[Candidate, list[Candidate]]:
    """Fit laws by maximum likelihood and choose the simplest that predicts other images well.

    That is the law of fewest parameters (of these, the likeliest) whose held-out log likelihood
    is below the best by at most two standard errors of their paired difference over images, or
    1e-4 for each increment.
    A parameter's error is the sandwich H^-1 (sum of g g^T) H^-1, g an image's gradient of the log
    likelihood and H the total's Hessian: increments of one image may depend on each other.

    Args:
        train: (I, m) increments, a row for each image.
        test: (J, n), of other images.
        volume: Of their cells.
        families: Laws by name, the Gaussian among them; fitting starts from their parameters.

    Returns:
        The chosen law, and all that could be fitted and tabulated, by gain.
    """
    scores: dict[str, Tensor] = {}
    fits: dict[str, Fit] = {}
    for name, law in families.items():
        try:
            fitted = fit(train, law, volume)
            scores[name] = log_density(test.double(), fitted.law, volume).mean(1)
        except ValueError:  # tails too heavy for a table
            continue
        fits[name] = fitted
    best = max(scores.values(), key=lambda score: float(score.mean()))
    candidates, enough = [], []
    for name, fitted in fits.items():
        gain, deficit = _mean(scores[name] - scores[GAUSSIAN]), _mean(best - scores[name])
        candidate = Candidate(name, fitted.law, _parameters(fitted, train, volume), gain)
        candidates.append(candidate)
        if deficit["value"] <= max(ERRORS * deficit["error"], LEAST_GAIN):
            enough.append(candidate)
    chosen = min(enough, key=lambda c: (len(c.parameters), -c.gain["value"]))
    return chosen, sorted(candidates, key=lambda c: -c.gain["value"])


def _mean(values: Tensor) -> Estimate:
    return {"value": float(values.mean()), "error": float(values.std()) / len(values) ** 0.5}


def _parameters(fitted: Fit, x: Tensor, volume: float, h: float = 1e-4) -> dict[str, Estimate]:
    """Parameters, with the errors of `fit` times the square root of the sandwich's excess."""
    law = fitted.law.learnable_copy().double()
    raw = list(law.parameters())

    def at(j: int, step: float) -> tuple[np.ndarray, np.ndarray]:
        with torch.no_grad():
            raw[j].add_(step)
        rows = density_table(law, volume).at(x.double()).sum(1)
        gradient = torch.autograd.grad(rows.sum(), raw)
        with torch.no_grad():
            raw[j].sub_(step)
        return rows.detach().numpy(), np.array([float(part) for part in gradient])

    ends = [(at(j, h), at(j, -h)) for j in range(len(raw))]
    scores = np.stack([(up[0] - down[0]) / (2 * h) for up, down in ends], 1)  # (I, p)
    hessian = np.stack([(up[1] - down[1]) / (2 * h) for up, down in ends])
    inverse = np.linalg.pinv(-(hessian + hessian.T) / 2, rcond=1e-9, hermitian=True)
    sandwich = inverse @ (scores.T @ scores) @ inverse * len(x) / (len(x) - 1)
    with np.errstate(all="ignore"):
        excess = np.nan_to_num(np.sqrt(sandwich.diagonal() / inverse.diagonal()), nan=np.inf)
    return {
        name: {"value": value, "error": fitted.standard_errors[name] * float(factor)}
        for (name, value), factor in zip(fitted.parameters.items(), excess, strict=True)
    }
