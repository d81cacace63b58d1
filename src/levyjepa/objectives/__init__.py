"""The terms of the training loss and their weighted sum."""

from levyjepa.objectives.invariance import invariance
from levyjepa.objectives.lejepa import LeJEPA, LeJEPALoss
from levyjepa.objectives.levy import LevyRegularizer
from levyjepa.objectives.levy_term import LevyTerm
from levyjepa.objectives.patch_tokens import PatchTokens
from levyjepa.objectives.sigreg import SIGReg
from levyjepa.objectives.variation import TotalVariation
from levyjepa.objectives.video import VideoRegularizer
from levyjepa.objectives.watch import PriorWarning

__all__ = [
    "LeJEPA",
    "LeJEPALoss",
    "LevyRegularizer",
    "LevyTerm",
    "PatchTokens",
    "PriorWarning",
    "SIGReg",
    "TotalVariation",
    "VideoRegularizer",
    "invariance",
]
