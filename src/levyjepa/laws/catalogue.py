"""One instance of every law, and the parser that reads a law from text."""

from typing import Any

from levyjepa.expression import evaluate
from levyjepa.laws.brownian import Brownian
from levyjepa.laws.gamma_process import VarianceGamma
from levyjepa.laws.gaussian import GaussianJumps
from levyjepa.laws.independent import IndependentCoordinates
from levyjepa.laws.laplace import LaplaceJumps
from levyjepa.laws.law import Law
from levyjepa.laws.normal_inverse_gaussian import NormalInverseGaussian
from levyjepa.laws.poisson import CompoundPoisson
from levyjepa.laws.scale import Pinned, Scaled, ScaledJumps
from levyjepa.laws.stable import Stable
from levyjepa.laws.student_t import StudentTJumps
from levyjepa.laws.variance_gamma import VarianceGammaJumps
from levyjepa.laws.volume import OverVolume

ALL_LAWS: tuple[Law, ...] = (
    Brownian(sigma=0.8),
    CompoundPoisson(rate=1.5, jumps=LaplaceJumps(alpha=1.2)),
    CompoundPoisson(rate=0.7, jumps=VarianceGammaJumps(k=0.6, beta=0.9)),
    CompoundPoisson(rate=1.0, jumps=StudentTJumps(nu=5.5)),
    CompoundPoisson(rate=2.0, jumps=GaussianJumps(sigma=1.3)),
    Stable(alpha=1.4, scale=0.7),
    NormalInverseGaussian(alpha=1.2, delta=0.9),
    VarianceGamma(shape=1.1, beta=0.8),
    Brownian(sigma=0.125) + CompoundPoisson(rate=2.0, jumps=LaplaceJumps(alpha=1.0)),
)

_NAMES = {type(part).__name__: type(part) for law in ALL_LAWS for part in law.modules()}
_NAMES = {name: kind for name, kind in _NAMES.items() if name not in ("Sum", "ModuleList")}
_NAMES |= {
    kind.__name__: kind
    for kind in (Scaled, ScaledJumps, Pinned, OverVolume, IndependentCoordinates)
}


def parse_law(text: str) -> Any:
    """Return the law that a text describes, in the format that `repr(law)` prints.

    Args:
        text: A law or a sum of laws, such as "Brownian(1/8) + 2 * Stable(1.4)". Numbers may be
            computed with + - * / and **.

    Returns:
        A `Law`, or an `IndependentCoordinates` if the text names it.

    Raises:
        TypeError: `text` is not a string.
        ValueError: `text` does not describe a law.

    >>> parse_law("Brownian(0.125) + CompoundPoisson(2, LaplaceJumps(1))")
    Brownian(sigma=0.125) + CompoundPoisson(rate=2.0, jumps=LaplaceJumps(alpha=1.0))
    """
    if not isinstance(text, str):
        raise TypeError(f"`text` must be a string, got {text!r}.")
    law = evaluate(text, _NAMES, "law")
    if not isinstance(law, (Law, IndependentCoordinates)):
        raise ValueError(f"{text!r} is not a law: it is of type {type(law).__name__}.")
    return law
