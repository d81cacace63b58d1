"""Nearest neighbors, as a picture."""

import torch
from torch.nn.functional import normalize

from levyjepa.tasks.context import Context
from levyjepa.tasks.panels import Tile, channels_last, class_name, spread, tiles
from levyjepa.tasks.registry import register_task

IMAGES, NEIGHBORS = 10, 5
SAME, OTHER = "#009e73", "#d55e00"


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
    images, others = channels_last(test.images), channels_last(train.images)
    columns = []
    for place, row, near in zip(chosen, rows.tolist(), nearest, strict=True):
        label = int(test.labels[row])
        column = [Tile(images[place], class_name(context.source.classes, label))]
        for n in near.tolist():
            same = int(train.labels[among[n]]) == label
            frame = "" if label < 0 else SAME if same else OTHER
            column.append(Tile(others[candidates[n]], frame=frame))
        columns.append(column)
    agree = int((train.labels[among[nearest]] == test.labels[rows][:, None]).sum())
    labeled = bool((test.labels[rows] >= 0).all())
    context.picture(
        "neighbors",
        tiles(
            list(zip(*columns, strict=True)),
            ["image", *(f"neighbor {n + 1}" for n in range(nearest.shape[1]))],
            f"{agree} of {nearest.numel()} neighbors have the image's class." if labeled else "",
        ),
        "Nearest neighbors",
        f"Test images, and below each the most similar of {len(candidates)} training images by "
        "cosine similarity of embeddings. Green frames: the same class; orange: another.",
    )
