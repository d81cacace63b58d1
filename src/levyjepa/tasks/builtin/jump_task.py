"""Where tokens jump within an image, and the distribution of their increments beside the law."""

import math
from typing import Any

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
    values = increments(field, box(2)).flatten()
    if not values.any():
        raise ValueError("The field must vary, got increments that are all 0.")
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(0))[:INCREMENTS]
    sample = values[order].double().numpy()
    variance, kurtosis = _moment(law.variance), _moment(law.kurtosis)
    rescale = not context.prior and variance is not None
    if variance is not None and rescale:
        sample = sample * math.sqrt(variance / float(np.mean(sample**2)))
    if context.subject.name == "trained":
        _draw_maps(context, increment_map(field))
    _draw_increments(context, sample, law, rescale)
    words = "it has none" if kurtosis is None else f"{kurtosis:.3g}"
    note = f"Weight of the tails of box(2) increments; of the law: {words}."
    title = "Excess kurtosis of increments"
    value, n = float(stats.kurtosis(sample)), len(sample)
    scores = [Score("excess_kurtosis", value, None, n, "", None, title, note, None, True)]
    try:
        probability = jump_map(field, law, rescale)
    except ValueError:  # a law that is not Brownian with jumps
        return scores
    for name, likely, title, note in (
        (
            "mean_probability",
            probability,
            "Probability of a jump",
            "Mean over patch corners, given the increment over all channels.",
        ),
        (
            "likely",
            (probability > 0.5).float(),
            "Corners with a likely jump",
            "Share of patch corners whose probability of a jump is above one half.",
        ),
    ):
        if (expected := expected_jumps(law)) is not None:
            note += f" Under the law, {100 * expected:.1f} % of corners jump."
        n, value = probability.numel(), likely.mean().item()
        scores.append(Score(name, value, None, n, "%", None, title, note, None))
    return scores


def _moment(moment: Any) -> float | None:
    """A law's variance or kurtosis of unit volume, None where it has none."""
    try:
        value = float(moment())
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _draw_maps(context: Context, sizes: Tensor) -> None:
    test = context.test
    labels = test.labels[test.rows]
    chosen = spread(labels, IMAGES)
    shown = sizes[chosen].numpy()
    strength = (shown / max(float(np.quantile(shown, NEARLY)), 1e-9)).clip(0, 1)
    images = channels_last(test.images[chosen])
    names = [class_name(context.source.classes, label) for label in labels[chosen].tolist()]
    above = [Tile(image, name) for image, name in zip(images, names, strict=True)]
    below = [Tile(image, "", each) for image, each in zip(images, strength, strict=True)]
    context.picture(
        "maps",
        tiles([above, below]),
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
    expected, heights = (
        np.histogram(values, edges)[0] / len(values) / np.diff(edges) for values in (drawn, sample)
    )
    left.stairs(expected, edges, fill=True, color=GRAY, alpha=0.4, lw=0, label="law")
    heights[heights == 0] = np.nan
    left.plot((edges[1:] + edges[:-1]) / 2, heights, color=COLOR, lw=1.8, label="increments")
    left.set(yscale="log", xlabel="increment", ylabel="density", xlim=(-reach, reach))
    left.set_ylim(expected[expected > 0].min() / 3, expected.max() * 6)
    legend(left, loc="upper right")
    far = stats.norm.ppf(1 - 5 / max(len(sample), 100))
    levels = stats.norm.cdf(np.linspace(-far, far, 81))
    theory = np.quantile(drawn, levels)
    most = float(np.abs(theory).max()) * 1.05
    right.axline((0, 0), slope=1, color=GRAY, lw=1.2)
    right.plot(theory, np.quantile(sample, levels), color=COLOR, lw=1.8)
    right.xaxis.set_major_locator(MaxNLocator(5))
    right.set(xlabel="quantile of the law", ylabel="quantile of increments")
    right.set(xlim=(-most, most), ylim=(-1.5 * most, 1.5 * most))
    scale = " Increments are scaled to the law's variance, as nothing trained them." * rescale
    context.picture(
        "increments",
        figure,
        f"Increments and their law, {context.subject.name} network",
        "Left: how often each size occurs. Right: quantile against quantile; on the diagonal "
        f"increments follow the law exactly.{scale}",
    )
