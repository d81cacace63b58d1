"""What masks say of networks: the segmentation probe, and boundaries found without labels."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate
from torch.utils.data import Dataset

from levyjepa.data.segmentation import SegmentationSource
from levyjepa.evaluation.boundaries import score_boundaries, sobel
from levyjepa.evaluation.features import Dense, fields, patches
from levyjepa.evaluation.jumps import increment_pixels, jump_pixels
from levyjepa.evaluation.segmentation import Overlays, held_out, overlays, segmentation_probe
from levyjepa.lattice import Stencil, line
from levyjepa.laws import Law
from levyjepa.models import Network

LINES = line(2, 0), line(2, 1)
TOLERANCE = 0.02  # of the diagonal: patches are coarser than BSDS's .0075


def judge_by_masks(
    networks: Mapping[str, Network],
    source: SegmentationSource,
    normalise: Callable[[Tensor], Tensor],
    device: str | torch.device = "cpu",
    *,
    law: Law | None = None,
    trained: Mapping[str, Sequence[Stencil]] | None = None,
    holdout: bool = False,
    limit: int | None = None,
    pixels: bool = True,
    progress: Callable[[str], None] = lambda what: None,
    show: Callable[[str, Overlays], None] = lambda name, shown: None,
) -> dict[str, dict[str, Any]]:
    """Judge networks of one patch size, and raw pixels, by masks.

    Args:
        networks: By name.
        source: Images with masks.
        normalise: From images of uint8 to the encoders' input.
        device: Where tokens are computed.
        law: Of the projected fields' increments; None leaves out the maps of jumps.
        trained: The stencils whose increments the prior gave the law's scale, for each network
            that has some; the increments of others are rescaled.
        holdout: Judge a fifth of the training images, of consecutive ones, and fit the rest; the
            validation split stays unseen.
        limit: At most so many images of a split, evenly spaced; None for all.
        pixels: Whether to judge raw pixels too.
        progress: Told what begins.
        show: Given a network's name and a few images with the masks that its tokens tell.

    Returns:
        For each network, and for "pixels": "segmentation", and "boundaries" of several maps, at a
        tolerance of .02 of the diagonal. "jumps" and "increments" are read from the projected
        field by boxes and lines, "tokens" is the gradient of the tokens; "sobel" that of the
        images' brightness, "sobel_patches" the same averaged over each patch.
    """
    splits: list[tuple[Dataset, Tensor]]
    if holdout:
        held = held_out(len(source.train))
        splits = [(source.train, part.nonzero()[:, 0]) for part in (~held, held)]
    else:
        splits = [(split, torch.arange(len(split))) for split in (source.train, source.val)]
    progress("masks: images")
    (images, masks), (seen, truth) = (_stack(*split, limit) for split in splits)
    size = truth.shape[1:]
    found: dict[str, dict[str, Any]] = {}

    def segmentation(name: str, train: Tensor, val: Tensor) -> dict[str, Any]:
        told = segmentation_probe(Dense(train, masks), Dense(val, truth), source.classes)
        show(name, overlays(told, seen, truth))
        return told.as_dict()

    def boundaries(maps: Callable[[], Tensor]) -> dict[str, Any]:
        try:
            return score_boundaries(maps(), truth, TOLERANCE).as_dict()
        except ValueError as error:  # a constant field, a law that cannot be read, no boundaries
            return {"missing": str(error)}

    for name, network in networks.items():
        progress(f"{name}: segmentation")
        tokens = fields(network, seen, normalise, device)
        fitted = fields(network, images, normalise, device)
        scores = {"segmentation": segmentation(name, fitted, tokens)}
        progress(f"{name}: boundaries")
        field = fields(network, seen, normalise, device, projected=True).double()
        known = (trained or {}).get(name, ())
        maps: dict[str, Callable[[], Tensor]] = {
            "increments": lambda field=field: increment_pixels(field, size),
            "tokens": lambda tokens=tokens: increment_pixels(tokens, size, LINES),
        }
        if law is not None:
            maps["jumps"] = lambda field=field, known=known: jump_pixels(
                field, law, size, trained=known
            )
        scores["boundaries"] = {key: boundaries(read) for key, read in maps.items()}
        found[name] = scores
    if not pixels:
        return found
    progress("pixels: segmentation and boundaries")
    side = next(iter(networks.values())).encoder.vit.patch_embed.patch_size[0]
    edges = sobel(seen)
    coarse = interpolate(avg_pool2d(edges[:, None], side), size, mode="bilinear")
    found["pixels"] = {
        "segmentation": segmentation("pixels", patches(images, side), patches(seen, side)),
        "boundaries": {
            "sobel": boundaries(lambda: edges),
            "sobel_patches": boundaries(lambda: coarse[:, 0]),
        },
    }
    return found


def _stack(dataset: Dataset, rows: Tensor, limit: int | None) -> tuple[Tensor, Tensor]:
    if limit is not None and limit < len(rows):
        rows = rows[torch.arange(limit) * len(rows) // limit]
    images, masks = zip(*(dataset[row] for row in rows.tolist()), strict=True)
    return torch.stack(images), torch.stack(masks)
