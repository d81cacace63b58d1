"""The law of a film's increments: Brownian motion and jumps, stated at first, then fitted."""

import contextlib
import math
from typing import Any
from warnings import catch_warnings

import numpy as np
import torch

from levyjepa.inference import fit, jump_probability
from levyjepa.laws import Brownian, CompoundPoisson, GaussianJumps

UNIT = 0.14  # length of an increment over a unit volume: about 2 in 100 pixels change their color
DIM = 8  # directions of an increment: the mean square cosine of two cuts is about 1 / 8
STATED = Brownian(UNIT / DIM**0.5) + CompoundPoisson(0.01, GaussianJumps(0.8 / DIM**0.5))
STATED_SAMPLES = 256  # increments drawn from the stated law, which every fit sees too
WINDOW = 2048  # increments of the film that a fit sees at most


class FilmLaw:
    """An isotropic law in `DIM` directions: Brownian motion and jumps that strike all directions.

    The law is the stated one at first. It is fitted to the film's last increments, beside some that
    are drawn from the stated law, once there are 512, when their number has doubled, and then once
    in a window.
    """

    def __init__(self) -> None:
        self._law: Any = STATED
        self.lengths = np.zeros(0)
        self.new, self.due = 0, WINDOW // 4

    def jumps(self, lengths: np.ndarray, volumes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the probability of a jump in each cell, and the Bayes factor for one.

        The factor is P(x | a jump) / P(x | none): the posterior odds over the prior odds, e^(rate
        volume) - 1.

        Args:
            lengths: (n,) of the increments.
            volumes: (n,) of their cells, few different ones.
        """
        probability, factor = np.zeros((2, len(lengths)))
        law = self.law
        rate = float(law.laws[1].rate)
        for volume in np.unique(volumes):
            here = volumes == volume
            vectors = torch.zeros(int(here.sum()), DIM, dtype=torch.float64)
            vectors[:, 0] = torch.from_numpy(lengths[here])  # isotropic: any direction will do
            p = jump_probability(vectors, law, float(volume), isotropic=True).numpy()
            probability[here] = p
            with np.errstate(divide="ignore"):
                factor[here] = p / (1 - p) / math.expm1(rate * volume)
        return probability, factor

    def learn(self, lengths: np.ndarray) -> None:
        """Add the lengths of further increments over a unit volume."""
        self.lengths = np.concatenate([self.lengths, lengths])[-WINDOW:]
        self.new += len(lengths)

    @property
    def law(self) -> Any:
        """The law of the moment, fitted if a fit is due."""
        if self.new >= self.due:
            self.new, self.due = 0, len(self.lengths)
            generator = torch.Generator().manual_seed(0)
            stated = STATED.sample((STATED_SAMPLES,), 1.0, DIM, generator, torch.float64)
            directions = torch.randn(self.due, DIM, generator=generator, dtype=torch.float64)
            directions /= directions.norm(dim=1, keepdim=True)
            film = torch.from_numpy(self.lengths)[:, None] * directions
            # No such law may have a density: the last one stays. Still frames hold exact zeros.
            with contextlib.suppress(ValueError), catch_warnings(action="ignore"):
                self._law = fit(torch.cat([stated, film]), STATED).law
        return self._law
