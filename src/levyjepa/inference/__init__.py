"""Fit a law to increments, test it, and compute densities and jump probabilities."""

from levyjepa.inference.density import log_density
from levyjepa.inference.fit import Fit, fit
from levyjepa.inference.goodness import GoodnessOfFit, goodness_of_fit
from levyjepa.inference.posterior import jump_probability

__all__ = ["Fit", "GoodnessOfFit", "fit", "goodness_of_fit", "jump_probability", "log_density"]
