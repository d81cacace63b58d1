"""Do a frozen model's patch tokens follow a Lévy law? Layer by layer, stencil by stencil."""

from levyjepa.evaluation.diagnose.ask import DIRECTIONS, LEAST, SHOWN, STENCILS, diagnose
from levyjepa.evaluation.diagnose.fields import read_fields
from levyjepa.evaluation.diagnose.record import Finding

__all__ = [
    "DIRECTIONS",
    "LEAST",
    "SHOWN",
    "STENCILS",
    "Finding",
    "diagnose",
    "read_fields",
]
