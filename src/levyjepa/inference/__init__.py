"""Fit a law, test a law, find the jumps."""

from levyjepa.inference.density import log_density
from levyjepa.inference.fit import Fit, fit
from levyjepa.inference.goodness import GoodnessOfFit, goodness_of_fit
from levyjepa.inference.jumps import jump_probability

__all__ = ["Fit", "GoodnessOfFit", "fit", "goodness_of_fit", "jump_probability", "log_density"]
