"""The loss, term by term."""

from levyjepa.objectives.invariance import invariance
from levyjepa.objectives.lejepa import LeJEPA, LeJEPALoss
from levyjepa.objectives.levy import LevyRegularizer
from levyjepa.objectives.sigreg import SIGReg
from levyjepa.objectives.variation import TotalVariation

__all__ = ["LeJEPA", "LeJEPALoss", "LevyRegularizer", "SIGReg", "TotalVariation", "invariance"]
