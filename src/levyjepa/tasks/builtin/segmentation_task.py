"""Semantic segmentation by a linear head on frozen tokens."""

from levyjepa.tasks.context import Context
from levyjepa.tasks.panels import VOID, Tile, channels_last, class_colors, evenly, paint, tiles
from levyjepa.tasks.registry import register_task
from levyjepa.tasks.score import Score
from levyjepa.tasks.segmentation_probe import Dense, Segmentation, segmentation_probe

SHOWN = 6  # images


@register_task("segmentation", title="Segmentation", needs=("masks", "images"), order=30)
def segmentation(context: Context) -> list[Score]:
    """Mean IoU of a linear head that reads each pixel's class from frozen tokens."""
    train, test = context.train, context.test
    assert train.masks is not None
    assert test.masks is not None
    found = segmentation_probe(
        Dense(train.tokens, train.masks),
        Dense(test.tokens, test.masks),
        context.source.mask_classes,
    )
    _draw(context, found)
    pixels = sum(found.pixels)
    commonest = max(found.pixels) / pixels
    present = sum(n > 0 for n in found.pixels)
    head = f"A linear head on frozen tokens, weight decay {found.decay:g} chosen on training images"
    scores = [
        Score(
            "miou",
            found.miou,
            n=len(test.masks),
            chance=commonest / present,
            title="Mean IoU",
            note=f"{head}; chance predicts the commonest class everywhere.",
            headline=True,
        ),
        Score(
            "pixel_accuracy",
            found.pixel_accuracy,
            n=pixels,
            chance=commonest,
            title="Pixel accuracy",
            note="Share of pixels whose class is right; chance predicts the commonest class.",
        ),
    ]
    for name, iou, n in zip(found.classes, found.iou, found.pixels, strict=True):
        if iou is not None:
            note = "Intersection over union of this class; n is its pixels."
            scores.append(Score(f"class/{name}", iou, n=n, title=f"IoU, {name}", note=note))
    return scores


def _draw(context: Context, found: Segmentation) -> None:
    if context.subject.name != "trained":
        return
    test, rows = context.test, evenly(len(found.prediction), SHOWN)
    assert test.masks is not None
    colors = class_colors(len(found.classes))
    images = [channels_last(test.images[row]) for row in rows]
    layers = [
        [Tile(image) for image in images],
        *(
            [
                Tile(paint(image, masks[row].numpy(), colors))
                for image, row in zip(images, rows, strict=True)
            ]
            for masks in (test.masks, found.prediction)
        ),
    ]
    names = [*zip(found.classes, colors, strict=True), ("void", VOID)]
    context.picture(
        "overlays",
        tiles(layers, ["image", "truth", "predicted"], names),
        "Segmentation from frozen tokens",
        "What a linear head makes of each token, upsampled to pixels, below the true classes.",
        headline=True,
    )
