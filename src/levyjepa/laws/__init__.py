"""Laws of increments: Brownian motion, jump processes and their sums."""

from levyjepa.laws.brownian import Brownian
from levyjepa.laws.catalogue import ALL_LAWS, parse_law
from levyjepa.laws.gamma_process import VarianceGamma
from levyjepa.laws.gaussian import GaussianJumps
from levyjepa.laws.independent import IndependentCoordinates
from levyjepa.laws.laplace import LaplaceJumps
from levyjepa.laws.law import Law, Sum
from levyjepa.laws.normal_inverse_gaussian import NormalInverseGaussian
from levyjepa.laws.parametric import Positive
from levyjepa.laws.poisson import CompoundPoisson, Jumps
from levyjepa.laws.scale import Pinned, Scaled, ScaledJumps
from levyjepa.laws.stable import Stable
from levyjepa.laws.student_t import StudentTJumps
from levyjepa.laws.variance_gamma import VarianceGammaJumps
from levyjepa.laws.volume import OverVolume

__all__ = [
    "ALL_LAWS",
    "Brownian",
    "CompoundPoisson",
    "GaussianJumps",
    "IndependentCoordinates",
    "Jumps",
    "LaplaceJumps",
    "Law",
    "NormalInverseGaussian",
    "OverVolume",
    "Pinned",
    "Positive",
    "Scaled",
    "ScaledJumps",
    "Stable",
    "StudentTJumps",
    "Sum",
    "VarianceGamma",
    "VarianceGammaJumps",
    "parse_law",
]
