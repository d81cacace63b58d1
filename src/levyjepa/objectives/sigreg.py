"""SIGReg: embeddings should follow an isotropic Gaussian."""

import torch
from torch import Tensor, nn

from levyjepa import checks
from levyjepa.ecf.empirical import wave_sums
from levyjepa.objectives.constants import Constants
from levyjepa.objectives.directions import random_directions
from levyjepa.objectives.ranks import Group, total


class SIGReg(nn.Module):
    """Sketched isotropic Gaussian regularization: an Epps-Pulley test along random directions.

    N times the integral over [-u_max, u_max] of |mean exp(iu<a,z>) - e^(-u^2/2)|^2 e^(-u^2/2) du,
    averaged over directions a and over views. The inner mean is over the N samples of one view. In
    distributed training it is over the samples of all ranks, with gradients, and N is their number.

    Args:
        num_directions: Number of random unit directions, drawn at every call, equal on all ranks.
        knots: Number of equispaced frequencies on [0, max_frequency], including 0 (trapezoid rule).
        max_frequency: The largest frequency, u_max.
        process_group: Process group of the ranks that share a batch, all ranks if None.

    Source: Balestriero and LeCun, *LeJEPA*, 2025.
    """

    def __init__(
        self,
        num_directions: int = 256,
        knots: int = 17,
        max_frequency: float = 3.0,
        process_group: Group = None,
    ) -> None:
        super().__init__()
        self.num_directions = checks.count("num_directions", num_directions)
        checks.count("knots", knots, least=2)
        self.step = checks.positive("max_frequency", max_frequency) / (knots - 1)
        self.group = process_group
        u = self.step * torch.arange(1, knots, dtype=torch.float64, device="cpu")
        weights = torch.full_like(u, 2 * self.step)
        weights[-1] /= 2
        target = torch.exp(-(u**2) / 2)
        self.tables = Constants(u, target, weights * target)

    def forward(
        self,
        projections: Tensor,
        directions: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return the loss of a batch.

        Args:
            projections: (V, N, D) floating point: N samples in each of V views.
            directions: (D, K) unit columns, used instead of random directions.
            generator: Random number generator of the directions, on the projections' device. In
                distributed training it must have the same seed on all ranks.

        Returns:
            A scalar, in float32 or float64.
        """
        checks.floating("projections", projections, 3, "(V, N, D)")
        _, samples, dim = projections.shape
        with torch.autocast(projections.device.type, enabled=False):
            z = projections if projections.dtype.itemsize >= 4 else projections.float()
            if directions is None:
                directions = random_directions(
                    dim, self.num_directions, z.dtype, z.device, generator, True, self.group
                )
            elif checks.floating("directions", directions).shape[:-1] != (dim,):
                raise ValueError(f"`directions` must be ({dim}, K), got {tuple(directions.shape)}.")
            sketches = (z @ directions.to(z)).transpose(1, 2).reshape(-1, samples)
            nodes, target, weights = self.tables.on(z.device, z.dtype)
            waves = total(torch.stack(wave_sums(sketches, nodes, self.step)), self.group)
            number = total(z.new_tensor(samples), self.group)
            real, imaginary = waves / number
            gap = (real - target) ** 2 + imaginary**2
            return number * (gap * weights).sum(-1).mean()
