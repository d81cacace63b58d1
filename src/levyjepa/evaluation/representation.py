"""The health of a representation: how many directions it uses, and whether it obeys its laws."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from statistics import mean, stdev
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from levyjepa.checks import floating
from levyjepa.ecf import equispaced, null, statistic
from levyjepa.lattice import Stencil, increments, overlaps
from levyjepa.laws import Law
from levyjepa.objectives import SIGReg

DIRECTIONS, DRAWS = 128, 100
LEAST_RANK, LEAST_SPREAD = 2.0, 1e-4


@dataclass(frozen=True)
class Representation:
    """What a batch of images tells of a network."""

    images: int
    width: int  # of the embedding
    effective_rank: float  # of the embeddings, RankMe's
    centred_rank: float  # the same less their mean
    spread: float  # the embeddings' variance over their mean square
    uniformity: float
    alignment: float | None  # None without two views
    gaussian: float  # of the projections, see `gaussian_misfit`
    levy: dict[str, float]  # of the field, for each stencil, see `levy_misfit`
    levy_rescaled: dict[str, float | None]  # the same at the law's scale; None where none can be

    @property
    def collapsed(self) -> bool:
        """Whether embeddings lie on a point or a line.

        That is, within 1 % of one point (variance below 1e-4 of the mean square), or with an
        effective rank below 2 about their mean.
        """
        return not (self.centred_rank >= LEAST_RANK and self.spread >= LEAST_SPREAD)

    def as_dict(self) -> dict[str, Any]:
        """What `evaluation.json` holds."""
        return {**asdict(self), "collapsed": self.collapsed}


def examine(
    embedding: Tensor,
    projection: Tensor,
    field: Tensor,
    tested: Mapping[str, tuple[Stencil, Law]] | None = None,
    views: tuple[Tensor, Tensor] | None = None,
    seed: int = 0,
) -> Representation:
    """Measure a representation by its embeddings, projections and fields of N images.

    Args:
        embedding: (N, E).
        projection: (N, D), which SIGReg sees.
        field: (N, h, w, C), of clips (N, t, h, w, C), which the prior sees.
        tested: Whose increments are compared with which law, by the names they get in `levy`.
        views: Embeddings (M, E) of two views of M images.
        seed: Draws directions, Gaussians and the rotation.
    """
    floating("embedding", embedding, 2, "(N, E)")
    floating("projection", projection, 2, "(N, D)")
    floating("field", field)
    centred = embedding - embedding.mean(0)
    total = embedding.double().square().mean()
    levy: dict[str, float] = {}
    rescaled: dict[str, float | None] = {}
    for name, (stencil, law) in (tested or {}).items():
        levy[name] = levy_misfit(field, law, stencil, False, seed)
        try:
            rescaled[name] = levy_misfit(field, law, stencil, True, seed)
        except ValueError:  # a constant field, or a law without variance
            rescaled[name] = None
    return Representation(
        images=len(embedding),
        width=embedding.shape[1],
        effective_rank=effective_rank(embedding),
        centred_rank=effective_rank(centred),
        spread=(centred.double().square().mean() / total).item() if total > 0 else 0.0,
        uniformity=uniformity(embedding),
        alignment=None if views is None else alignment(*views),
        gaussian=gaussian_misfit(projection, seed),
        levy=levy,
        levy_rescaled=rescaled,
    )


def effective_rank(x: Tensor) -> float:
    """exp(-sum p log p) of p, the singular values of rows (N, E) over their sum; 0 for zeros.

    Source: Garrido et al., *RankMe*, 2023.
    """
    values = torch.linalg.svdvals(floating("x", x, 2, "(N, E)").double())
    if not values.sum() > 0:
        return 0.0
    return torch.special.entr(values / values.sum()).sum().exp().item()


def uniformity(x: Tensor) -> float:
    """log mean exp(-2 |a - b|^2) over pairs of rows (N, E) on the unit sphere: 0 if all are one.

    Source: Wang and Isola, *Understanding contrastive representation learning*, 2020.
    """
    distances = torch.pdist(normalize(floating("x", x, 2, "(N, E)").double()))
    if not len(distances):
        raise ValueError(f"`x` must hold at least two rows, got {len(x)}.")
    return torch.exp(-2 * distances**2).mean().log().item()


def alignment(x: Tensor, y: Tensor) -> float:
    """mean |a - b|^2 of rows (N, E) on the unit sphere, a and b of two views of one image."""
    floating("x", x, 2, "(N, E)")
    if x.shape != y.shape:
        raise ValueError(f"`y` must be as large as `x`, got {tuple(y.shape)} and {tuple(x.shape)}.")
    return (normalize(x.double()) - normalize(y.double())).square().sum(1).mean().item()


def gaussian_misfit(x: Tensor, seed: int = 0) -> float:
    """SIGReg's statistic of rows (N, D), in null deviations above its null mean.

    The null's mean and deviation are those of 100 draws of N standard Gaussians, along the same
    128 directions. Gaussians score 0 +- 1.
    """
    directions, expected, deviation = _gaussian_null(*floating("x", x, 2, "(N, D)").shape, seed)
    return (SIGReg()(x.float()[None], directions).item() - expected) / deviation


@lru_cache(maxsize=16)
def _gaussian_null(rows: int, width: int, seed: int) -> tuple[Tensor, float, float]:
    generator = torch.Generator().manual_seed(seed)
    directions = normalize(torch.randn(width, DIRECTIONS, generator=generator), dim=0)
    test = SIGReg()
    drawn = [
        test(torch.randn(1, rows, width, generator=generator), directions).item()
        for _ in range(DRAWS)
    ]
    return directions, mean(drawn), stdev(drawn)


@torch.no_grad()
def levy_misfit(
    field: Tensor, law: Law, stencil: Stencil, rescale: bool = False, seed: int = 0
) -> float:
    """The mean over images of the statistic of a field's increments, in its null deviations.

    An image of the law scores 0 +- 1 on any grid (`levyjepa.ecf.null`), N of them 0 +- 1/sqrt(N)
    on average.

    Args:
        field: (N, *grid, C); its channels are turned by one random rotation, as in training.
        law: Of the increments.
        stencil: Whose increments.
        rescale: First bring the increments' mean square to the law's variance, so that shape
            alone counts.
        seed: Draws the rotation.

    Raises:
        ValueError: To be rescaled, a constant field or a law without variance.
    """
    field = floating("field", field).double()
    generator = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(
        torch.randn(field.shape[-1], field.shape[-1], dtype=field.dtype, generator=generator)
    ).Q
    samples = increments(field @ turn, stencil).flatten(1)
    if rescale:
        mean_square = samples.square().mean()
        if not mean_square > 0:
            raise ValueError("`field` must vary to be rescaled, got increments that are all 0.")
        samples = samples * (law.variance(stencil.volume) / mean_square) ** 0.5
    rule = equispaced(law, volume=stencil.volume)
    room = tuple(n - e for n, e in zip(field.shape[1:-1], stencil.extent, strict=True))
    chance = null(law, stencil.volume, rule, overlaps(stencil, room), field.shape[-1])
    score = (statistic(samples, law, stencil.volume, rule) - chance.mean) / chance.std
    return score.mean().item()
