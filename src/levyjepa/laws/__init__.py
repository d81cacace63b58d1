"""What increments should look like: one law, one page."""

from levyjepa.laws.brownian import Brownian
from levyjepa.laws.catalogue import ALL_LAWS, parse
from levyjepa.laws.gaussian import GaussianJumps
from levyjepa.laws.laplace import LaplaceJumps
from levyjepa.laws.law import Law, Sum
from levyjepa.laws.poisson import CompoundPoisson, Jumps
from levyjepa.laws.student_t import StudentTJumps
from levyjepa.laws.variance_gamma import VarianceGammaJumps

__all__ = [
    "ALL_LAWS",
    "Brownian",
    "CompoundPoisson",
    "GaussianJumps",
    "Jumps",
    "LaplaceJumps",
    "Law",
    "StudentTJumps",
    "Sum",
    "VarianceGammaJumps",
    "parse",
]
