"""Boundaries of objects, read from frozen tokens without labels."""

import logging
from collections.abc import Callable
from functools import partial

import matplotlib as mpl
import numpy as np
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from levyjepa.lattice import line
from levyjepa.tasks.boundaries import Boundaries, find_boundaries, score_boundaries, sobel
from levyjepa.tasks.context import Context
from levyjepa.tasks.jump_maps import increment_pixels, jump_pixels
from levyjepa.tasks.panels import GRAY, Tile, channels_last, evenly, legend, plots, tiles
from levyjepa.tasks.registry import register_task
from levyjepa.tasks.score import Score

log = logging.getLogger(__name__)

TOLERANCE = 0.02  # of the diagonal: patches are coarser than BSDS's .0075
LINES = line(2, 0), line(2, 1)
SHOWN = 8  # images
TITLES = {
    "increments": "increments of the field",
    "tokens": "gradient of the tokens",
    "jumps": "probability of a jump",
    "sobel": "gradient of brightness",
    "sobel_patches": "gradient of brightness, averaged over patches",
}


@register_task("boundaries", title="Boundaries", needs=("masks", "images"), order=31)
def boundaries(context: Context) -> list[Score]:
    """How well increments of frozen tokens mark the boundaries of masks, without labels."""
    masks = context.test.masks
    assert masks is not None
    maps: dict[str, Tensor] = {}
    found: dict[str, Boundaries] = {}
    scores, reason = [], ""
    for name, read in _maps(context, masks.shape[1:]).items():
        try:
            maps[name] = read()
            one = found[name] = score_boundaries(maps[name], masks, TOLERANCE)
        except ValueError as error:  # a constant field, or a law whose jumps can't be computed
            reason = str(error)
            log.info("No map of %s: %s", TITLES[name], reason)
            continue
        note = (
            f"Largest F of one threshold for all images, within {one.tolerance} pixels: precision "
            f"{one.precision:.2f}, recall {one.recall:.2f}."
        )
        area = "Area under the curve of precision and recall."
        first = name == "increments"
        for key, short, value, chance, text, headline in (
            ("best_f", "F", one.best_f, one.chance_f, note, first),
            ("average_precision", "AP", one.average_precision, one.chance, area, False),
        ):
            title, n = f"Boundary {short}, {TITLES[name]}", len(masks)
            scores.append(
                Score(f"{name}/{key}", value, None, n, "%", chance, title, text, True, headline)
            )
    if not found:
        raise ValueError(reason)
    if context.subject.name == "trained":
        _draw(context, masks, maps, found)
    return scores


def _maps(context: Context, size: tuple[int, ...]) -> dict[str, Callable[[], Tensor]]:
    """Maps (M, H, W) of the subject by name, not computed yet."""
    test, law = context.test, context.law
    if context.subject.name == "pixels":
        edges = sobel(test.images)
        coarse = avg_pool2d(edges[:, None], context.patch_size)
        smooth = interpolate(coarse, size, mode="bilinear")[:, 0]
        return {"sobel": lambda: edges, "sobel_patches": lambda: smooth}
    maps: dict[str, Callable[[], Tensor]] = {}
    if test.field is not None:
        field = test.field.double()
        maps["increments"] = partial(increment_pixels, field, size)
        if law is not None:
            known = [stencil for stencil, _ in context.laws.values()] if context.prior else []
            maps["jumps"] = partial(jump_pixels, field, law, size, trained=known)
    maps["tokens"] = partial(increment_pixels, test.tokens, size, LINES)
    return maps


def _draw(
    context: Context, masks: Tensor, maps: dict[str, Tensor], found: dict[str, Boundaries]
) -> None:
    rows = evenly(len(masks), SHOWN)
    images, truth = channels_last(context.test.images[rows]), find_boundaries(masks)
    layers = [[Tile(image) for image in images]]
    for values in (truth.astype(float), *(maps[name].numpy() for name in found)):
        top = max(float(np.quantile(values, 0.995)), 1e-9)
        colors = mpl.colormaps["magma"]((values[rows] / top).clip(0, 1))[..., :3]
        layers.append([Tile(image) for image in (255 * colors).astype(np.uint8)])
    context.picture(
        "maps",
        tiles(layers, ["image", "boundaries", *found]),
        "Boundaries without labels",
        "Test images, the boundaries of their masks, and soft maps read from frozen tokens.",
    )
    figure, (ax,) = plots(1)
    for name, one in found.items():
        (curve,) = ax.plot(one.curve[:, 2], one.curve[:, 1], lw=1.6, label=TITLES[name])
        ax.plot(one.recall, one.precision, "o", ms=5, color=curve.get_color())
        chance = one.chance
    ax.axhline(chance, color=GRAY, lw=1, ls=":", label="chance")
    ax.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1))
    legend(ax, loc="upper right")
    context.picture(
        "curves",
        figure,
        "Boundaries: precision and recall",
        "Every threshold of each map; the dot is the threshold with the largest F.",
    )
