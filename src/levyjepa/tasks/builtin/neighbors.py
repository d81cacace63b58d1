"""Nearest neighbors, as a picture."""

import torch
from torch.nn.functional import normalize

from levyjepa.tasks.context import Context
from levyjepa.tasks.panels import Tile, channels_last, class_name, spread, tiles
from levyjepa.tasks.registry import register_task

IMAGES, NEIGHBORS = 10, 5
FRAMES = "", "#d55e00", "#009e73"  # of images without a class, of another class, of the same


@register_task("neighbors", title="Neighbors", needs=("images",), subjects=("trained",), order=15)
def neighbors(context: Context) -> None:
    """Nearest training images of some test images."""
    train, test = context.train, context.test
    chosen = spread(test.labels[test.rows], IMAGES)
    candidates = torch.arange(len(train.rows))
    if context.source.test is None:  # an image is not its own neighbor
        candidates = candidates[~torch.isin(candidates, torch.tensor(chosen))]
    if not len(candidates):
        raise ValueError(f"There must be more than {len(chosen)} images, got {len(train.rows)}.")
    rows, among = test.rows[chosen], train.rows[candidates]
    similarity = normalize(test.embedding[rows]) @ normalize(train.embedding[among]).T
    nearest = similarity.topk(min(NEIGHBORS, len(candidates))).indices
    images, others = channels_last(test.images[chosen]), channels_last(train.images[candidates])
    labels = test.labels[rows]
    names = [class_name(context.source.classes, label) for label in labels.tolist()]
    layers = [[Tile(image, name) for image, name in zip(images, names, strict=True)]]
    same = train.labels[among[nearest]] == labels[:, None]
    marks = torch.where(labels[:, None] < 0, 0, 1 + same.long())
    for near, mark in zip(nearest.T.tolist(), marks.T.tolist(), strict=True):
        layers.append([Tile(others[n], frame=FRAMES[m]) for n, m in zip(near, mark, strict=True)])
    agree = f"{int(same.sum())} of {nearest.numel()} neighbors have the image's class."
    context.picture(
        "neighbors",
        tiles(
            layers,
            ["image", *(f"neighbor {n + 1}" for n in range(nearest.shape[1]))],
            agree if (labels >= 0).all() else "",
        ),
        "Nearest neighbors",
        f"Test images, and below each the most similar of {len(candidates)} training images by "
        "cosine similarity of embeddings. Green frames: the same class; orange: another.",
    )
