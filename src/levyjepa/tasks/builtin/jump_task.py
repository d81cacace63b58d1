"""Where tokens jump within an image, and the distribution of their increments beside the law."""

import math

import numpy as np
import torch
from matplotlib.ticker import MaxNLocator
from scipy import stats
from torch import Tensor

from levyjepa.lattice import box, increments
from levyjepa.laws import Law
from levyjepa.tasks.context import Context
from levyjepa.tasks.jump_maps import expected_jumps, increment_map, jump_map
from levyjepa.tasks.panels import (
    COLOR,
    GRAY,
    Tile,
    channels_last,
    class_name,
    legend,
    plots,
    spread,
    tiles,
)
from levyjepa.tasks.registry import register_task
from levyjepa.tasks.score import Score

IMAGES = 10  # in the picture
NEARLY = 0.995  # of the changes shown lie below what is drawn as the largest
INCREMENTS = 20_000
SAMPLES = 200_000  # of the law


@register_task(
    "jumps", title="Jumps", needs=("images",), subjects=("trained", "untrained"), order=50
)
def jumps(context: Context) -> list[Score]:
    """Where the projected tokens jump, and how their increments compare with the law."""
    field, law = context.test.field, context.law
    if field is None or law is None:
        raise ValueError("There must be a patch projection and a law of its increments.")
    values = increments(field, box(2))
    if not values.any():
        raise ValueError("The field must vary, got increments that are all 0.")
    variance = _moment(law.variance)
    rescale = not context.prior and variance is not None
    sample = _sample(values)
    if rescale and variance is not None:
        sample = sample * math.sqrt(variance / float(np.mean(sample**2)))
    if context.subject.name == "trained":
        _draw_maps(context, increment_map(field))
    _draw_increments(context, sample, law, rescale)
    of_law = _moment(law.kurtosis)
    words = "it has none" if of_law is None else f"{of_law:.3g}"
    scores = [
        Score(
            "excess_kurtosis",
            float(stats.kurtosis(sample)),
            n=len(sample),
            unit="",
            title="Excess kurtosis of increments",
            note=f"Weight of the tails of box(2) increments; of the law: {words}.",
            higher_is_better=None,
            headline=True,
        )
    ]
    return scores + _probabilities(field, law, rescale)


def _probabilities(field: Tensor, law: Law, rescale: bool) -> list[Score]:
    try:
        probability = jump_map(field, law, rescale)
    except ValueError:  # a law that is not Brownian with jumps
        return []
    n, expected = probability.numel(), expected_jumps(law)
    return [
        Score(
            name,
            value,
            n=n,
            chance=expected,
            title=title,
            note=f"{note} Chance is the share of corners at which the law jumps.",
            higher_is_better=None,
        )
        for name, value, title, note in (
            (
                "mean_probability",
                probability.mean().item(),
                "Probability of a jump",
                "Mean over patch corners, given the increment over all channels.",
            ),
            (
                "likely",
                (probability > 0.5).float().mean().item(),
                "Corners with a likely jump",
                "Share of patch corners whose probability of a jump is above one half.",
            ),
        )
    ]


def _sample(values: Tensor) -> np.ndarray:
    values = values.flatten()
    generator = torch.Generator().manual_seed(0)
    return values[torch.randperm(len(values), generator=generator)[:INCREMENTS]].double().numpy()


def _moment(moment: object) -> float | None:
    """A law's variance or kurtosis of unit volume, None where it has none."""
    try:
        value = float(moment())  # pyright: ignore[reportCallIssue]
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _draw_maps(context: Context, sizes: Tensor) -> None:
    test = context.test
    chosen = spread(test.labels[test.rows], IMAGES)
    shown = sizes[chosen].numpy()
    strength = (shown / max(float(np.quantile(shown, NEARLY)), 1e-9)).clip(0, 1)
    images = channels_last(test.images[chosen])
    names = [class_name(context.source.classes, int(test.labels[test.rows[i]])) for i in chosen]
    context.picture(
        "maps",
        tiles(
            [
                [Tile(image, name) for image, name in zip(images, names, strict=True)],
                [Tile(image, "", each) for image, each in zip(images, strength, strict=True)],
            ]
        ),
        "Where tokens jump",
        "Test images, and below each the size of the change at every patch corner, in all channels "
        "together: the larger and brighter, the likelier a jump.",
        headline=True,
    )


def _draw_increments(context: Context, sample: np.ndarray, law: Law, rescale: bool) -> None:
    with torch.no_grad():
        drawn = law.sample((SAMPLES,), generator=torch.Generator().manual_seed(0)).double().numpy()
    figure, (left, right) = plots(2)
    reach = float(np.quantile(np.abs(drawn), 0.9998))
    edges = np.linspace(-reach, reach, 62)
    expected = np.histogram(drawn, edges)[0] / len(drawn) / np.diff(edges)
    heights = np.histogram(sample, edges)[0] / len(sample) / np.diff(edges)
    middles = (edges[1:] + edges[:-1]) / 2
    left.stairs(expected, edges, fill=True, color=GRAY, alpha=0.4, lw=0, label="law")
    heights = np.where(heights > 0, heights, np.nan)
    left.plot(middles, heights, color=COLOR, lw=1.8, label="increments")
    positive = expected[expected > 0]
    left.set(yscale="log", xlabel="increment", ylabel="density", xlim=(-reach, reach))
    left.set_ylim(positive.min() / 3, positive.max() * 6)
    legend(left, loc="upper right")
    far = stats.norm.ppf(1 - 5 / max(len(sample), 100))
    levels = stats.norm.cdf(np.linspace(-far, far, 81))
    theory = np.quantile(drawn, levels)
    most = float(np.abs(theory).max()) * 1.05
    right.axline((0, 0), slope=1, color=GRAY, lw=1.2)
    right.plot(theory, np.quantile(sample, levels), color=COLOR, lw=1.8)
    right.set(xlim=(-most, most), ylim=(-1.5 * most, 1.5 * most))
    right.xaxis.set_major_locator(MaxNLocator(5))
    right.set(xlabel="quantile of the law", ylabel="quantile of increments")
    scale = " Increments are scaled to the law's variance, as nothing trained them." * rescale
    context.picture(
        "increments",
        figure,
        f"Increments and their law, {context.subject.name} network",
        "Left: how often each size occurs. Right: quantile against quantile; on the diagonal "
        f"increments follow the law exactly.{scale}",
    )
