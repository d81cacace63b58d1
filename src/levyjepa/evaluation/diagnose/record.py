"""What is found of one layer and one stencil."""

from dataclasses import dataclass

import numpy as np

from levyjepa.evaluation.diagnose.choice import Choice, Estimate
from levyjepa.laws import Law


@dataclass(frozen=True)
class Goodness:
    """A fitted law against held-out increments of thinned, disjoint cells."""

    deviations: float  # the statistic above its null mean, in null deviations
    p_value: float
    n: int


@dataclass(frozen=True)
class Side:
    """Cells of `side` times the stencil's steps.

    Of independent increments `variance`, over the volume's, is 1, `kurtosis` falls as 1 / volume,
    and neither the increments of neighbouring cells (`neighbours`) nor their squared norms
    (`energies`) correlate; these two are None where two cells don't fit.
    """

    side: int
    variance: Estimate
    kurtosis: Estimate
    neighbours: Estimate | None
    energies: Estimate | None


@dataclass(frozen=True)
class Jumps:
    """What the better of the laws with discrete jumps says."""

    family: str
    law: Law
    share: float  # of cells that hold a jump, judged from all directions together
    expected: float  # by the law
    together: Estimate  # correlation of P(jump) between two directions of a cell
    channels: Estimate  # between two of the model's own channels, brought to one variance
    isotropic: float  # either where the law holds, whose jumps strike all directions
    maps: np.ndarray  # (SHOWN, h, w) P(jump) of the first images


@dataclass(frozen=True)
class Control:
    """Other increments through the same procedure."""

    kurtosis: Estimate
    gain: Estimate | None  # of the normal inverse Gaussian law over the Gaussian
    neighbours: Estimate | None
    energies: Estimate | None


@dataclass(frozen=True)
class Finding:
    """One layer and one stencil."""

    layer: str
    stencil: str
    volume: float  # of its cells
    cells: int  # in each image
    variance: float  # for a unit volume; 1 on average over the layer's stencils
    spread: float  # of the variance over directions: deviation by mean
    fixed: float  # share of the variance that all images have in common, place by place
    kurtosis: Estimate
    choice: Choice
    goodness: Goodness
    goodness_of_gaussian: Goodness
    jumps: Jumps | None  # None where every cell holds many
    sides: tuple[Side, ...]
    gaussian: Control  # Gaussian increments of the tokens' covariance over directions
    shuffled: Control  # the tokens shuffled over places and images: white noise
    sample: np.ndarray  # held-out increments
