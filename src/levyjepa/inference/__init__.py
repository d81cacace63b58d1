"""Fit a law to increments, test it, and compute densities and jump probabilities."""

from levyjepa.inference.density import log_density
from levyjepa.inference.fit import Fit, fit
from levyjepa.inference.goodness import GoodnessOfFit, goodness_of_fit
from levyjepa.inference.posterior import jump_probability
from levyjepa.inference.scale import fit_scale

__all__ = [
    "Fit",
    "GoodnessOfFit",
    "fit",
    "fit_scale",
    "goodness_of_fit",
    "jump_probability",
    "log_density",
]
