"""How far samples are from a law: empirical against theoretical characteristic functions."""

from levyjepa.ecf.empirical import empirical_cf
from levyjepa.ecf.null import Null, null
from levyjepa.ecf.quadrature import (
    Quadrature,
    equispaced,
    exponential_weight,
    frequency_range,
    gauss_laguerre,
    gaussian_weight,
)
from levyjepa.ecf.statistic import distance, statistic

__all__ = [
    "Null",
    "Quadrature",
    "distance",
    "empirical_cf",
    "equispaced",
    "exponential_weight",
    "frequency_range",
    "gauss_laguerre",
    "gaussian_weight",
    "null",
    "statistic",
]
