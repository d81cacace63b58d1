"""How far samples are from a law: empirical against theoretical characteristic functions."""

from levyjepa.ecf.empirical import empirical_cf
from levyjepa.ecf.null import Null, null
from levyjepa.ecf.quadrature import Quadrature, equispaced, frequency_range, gauss_laguerre
from levyjepa.ecf.statistic import distance, statistic

__all__ = [
    "Null",
    "Quadrature",
    "distance",
    "empirical_cf",
    "equispaced",
    "frequency_range",
    "gauss_laguerre",
    "null",
    "statistic",
]
