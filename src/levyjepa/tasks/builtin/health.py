"""The health of a representation: how many directions it uses, and whether it obeys its laws."""

import logging
from functools import lru_cache
from statistics import mean, stdev

import torch
from torch import Tensor
from torch.nn.functional import normalize

from levyjepa.ecf import equispaced, null, statistic
from levyjepa.lattice import Stencil, increments, overlaps
from levyjepa.laws import Law
from levyjepa.objectives import SIGReg
from levyjepa.tasks.context import Context
from levyjepa.tasks.registry import register_task
from levyjepa.tasks.score import Score

log = logging.getLogger(__name__)

IMAGES = 1000
DIRECTIONS, DRAWS = 128, 100
LEAST_RANK, LEAST_SPREAD = 2.0, 1e-4
RESCALED = "levy_rescaled", ", rescaled", ", whatever the scale"
MISFIT = "In null deviations above the null mean: 0 for"


@register_task("health", title="Health", subjects=("trained", "untrained"), order=90)
def health(context: Context) -> list[Score]:
    """How many directions embeddings use, and how far they are from the laws of the loss."""
    test = context.test
    order = torch.randperm(len(test.labels), generator=torch.Generator().manual_seed(0))[:IMAGES]
    x, n, scores = test.embedding[order], len(order), []
    if n < 2:
        raise ValueError(f"There must be at least two images, got {n}.")

    def add(name: str, value: float, title: str, note: str, more: bool = False, n: int = n) -> None:
        head = name == "effective_rank"
        scores.append(Score(name, value, None, n, "", None, title, note, more, head))

    rank, share = effective_rank(x - x.mean(0)), spread(x)
    collapsed = not (rank >= LEAST_RANK and share >= LEAST_SPREAD)
    if collapsed and context.subject.name == "trained":
        log.warning("The embeddings have collapsed: they lie nearly on a point or a line.")
    note = f"Of {x.shape[1]} dimensions."
    add("effective_rank", effective_rank(x), "Effective rank", note, True)
    add("centered_rank", rank, "Effective rank about the mean", "", True)
    add("spread", share, "Spread", "Variance over mean square.", True)
    add("collapsed", float(collapsed), "Collapsed", "1 on a point or a line, else 0.")
    note = "log mean exp(-2 |a - b|^2) over pairs on the unit sphere: 0 if all are one."
    add("uniformity", uniformity(x), "Uniformity", note)
    if test.views is not None:
        value, title = alignment(*test.views.unbind(1)), "Alignment of two views"
        note = "Mean squared distance of two views of an image on the unit sphere."
        add("alignment", value, title, note, n=len(test.views))
    if test.projection is not None:
        value = gaussian_misfit(test.projection[order], context.seed)
        add("sigreg", value, "SIGReg misfit", f"{MISFIT} Gaussians.")
    if (field := test.field) is not None:
        for name, (stencil, law) in context.laws.items():
            for key, how, words in (("levy", "", ""), RESCALED):
                try:
                    value = levy_misfit(field, law, stencil, bool(how), context.seed)
                except ValueError:  # a constant field, or a law without variance
                    continue
                title, note = f"Lévy misfit{how}, {name}", f"{MISFIT} the law{words}."
                add(f"{key}/{name}", value, title, note, n=len(field))
    return scores


def effective_rank(x: Tensor) -> float:
    """Return exp(-sum p log p), p the singular values of rows (N, E) over their sum; 0 for zeros.

    Source: Garrido et al., *RankMe*, 2023.
    """
    values = torch.linalg.svdvals(x.double())
    if not values.sum() > 0:
        return 0.0
    return torch.special.entr(values / values.sum()).sum().exp().item()


def spread(x: Tensor) -> float:
    """Return the variance of rows (N, E) over their mean square; 0 for zeros."""
    x = x.double()
    total = x.square().mean()
    return ((x - x.mean(0)).square().mean() / total).item() if total > 0 else 0.0


def uniformity(x: Tensor) -> float:
    """Return log mean exp(-2 |a - b|^2) over pairs of rows (N, E) on the unit sphere.

    It is 0 if all rows are one. Source: Wang and Isola, *Understanding contrastive representation
    learning*, 2020.
    """
    distances = torch.pdist(normalize(x.double()))
    return torch.exp(-2 * distances**2).mean().log().item()


def alignment(x: Tensor, y: Tensor) -> float:
    """Return the mean |a - b|^2 of rows (N, E) on the unit sphere, two views of each image."""
    return (normalize(x.double()) - normalize(y.double())).square().sum(1).mean().item()


def gaussian_misfit(x: Tensor, seed: int = 0) -> float:
    """Return SIGReg's statistic of rows (N, D), in null deviations above its null mean.

    The null's mean and deviation are those of 100 draws of N standard Gaussians, along the same
    128 directions. Gaussians score 0 +- 1.
    """
    directions, expected, deviation = _gaussian_null(*x.shape, seed)
    return (SIGReg()(x.float()[None], directions).item() - expected) / deviation


@lru_cache(maxsize=16)
def _gaussian_null(rows: int, width: int, seed: int) -> tuple[Tensor, float, float]:
    generator = torch.Generator().manual_seed(seed)
    directions = normalize(torch.randn(width, DIRECTIONS, generator=generator), dim=0)
    draws = (torch.randn(1, rows, width, generator=generator) for _ in range(DRAWS))
    drawn = [SIGReg()(draw, directions).item() for draw in draws]
    return directions, mean(drawn), stdev(drawn)


@torch.no_grad()
def levy_misfit(
    field: Tensor, law: Law, stencil: Stencil, rescale: bool = False, seed: int = 0
) -> float:
    """Return the mean over images of the statistic of a field's increments, in null deviations.

    The channels of the field (N, *grid, C) are turned by one random rotation, as in training. An
    image of the law scores 0 +- 1 on any grid (`levyjepa.ecf.null`), N of them 0 +- 1/sqrt(N) on
    average. `rescale` brings the increments' mean square to the law's variance first, so that shape
    alone counts.

    Raises:
        ValueError: To be rescaled, a constant field or a law without variance.
    """
    field = field.double()
    generator = torch.Generator().manual_seed(seed)
    channels = field.shape[-1]
    square = torch.randn(channels, channels, dtype=field.dtype, generator=generator)
    turn = torch.linalg.qr(square).Q
    samples = increments(field @ turn, stencil).flatten(1)
    if rescale:
        mean_square = samples.square().mean()
        if not mean_square > 0:
            raise ValueError("`field` must vary to be rescaled, got increments that are all 0.")
        samples = samples * (law.variance(stencil.volume) / mean_square) ** 0.5
    rule = equispaced(law, volume=stencil.volume)
    room = tuple(n - e for n, e in zip(field.shape[1:-1], stencil.extent, strict=True))
    expected = null(law, stencil.volume, rule, overlaps(stencil, room), channels)
    score = (statistic(samples, law, stencil.volume, rule) - expected.mean) / expected.std
    return score.mean().item()
