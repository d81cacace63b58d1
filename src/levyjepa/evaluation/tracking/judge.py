"""Networks judged by the objects that they follow through a folder's sequences."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as F

from levyjepa.data.davis import VideoSequence
from levyjepa.evaluation.features import frozen, patches
from levyjepa.evaluation.tracking.davis import Encode, evaluate_davis
from levyjepa.models import TubeletEncoder

SIDE, MULTIPLE = 480, 64  # pixels: the protocol's, as far as frames are so large


def judge_sequences(
    networks: Mapping[str, nn.Module],
    sequences: Sequence[VideoSequence],
    normalise: Callable[[Tensor], Tensor],
    size: int,
    results: Path,
    device: str | torch.device = "cpu",
    *,
    frames: int | None = None,
    pixels: bool = True,
    progress: Callable[[str], None] = lambda what: None,
) -> dict[str, dict[str, Any]]:
    """Follow the objects of sequences by networks of one grid, and by raw pixels.

    Networks see frames of 480 pixels on the short side, or as large as they are if that is less,
    cut to whole patches; a network of clips sees `frames` of them at once, and one whose places
    are fixed, or bound to a size, sees all frames at that size.

    Args:
        networks: By name, each with an `encoder`.
        sequences: As `open_davis` gives them.
        normalise: From frames of uint8 to the encoder's input.
        size: Pixels a side at which the networks were trained.
        results: Masks are written below it, `NAME/SEQUENCE/*.png`.
        device: Where networks compute and labels are carried on.
        frames: Of the clips that the networks take; None for images.
        pixels: Whether patches of raw pixels are judged too.
        progress: Told what begins.

    Returns:
        For each network, and "pixels", {"tracking": ...} as `Tracking` gives it.
    """
    first: Any = next(iter(networks.values()))
    bound = isinstance(first.encoder, TubeletEncoder)
    blank = torch.zeros(frames or 1, 3, size, size, dtype=torch.uint8)
    patch = size // _tokens(first, blank, normalise, device, frames).shape[1]
    short = min(sequences[0].frames().shape[-2:])
    side = min(SIDE, short) // patch * patch
    whole = side == SIDE and MULTIPLE % patch == 0
    seen: dict[str, Any] = {"side": side, "multiple": MULTIPLE if whole else patch}
    if bound:
        seen = {"side": None}

    def fitted(some: Tensor) -> Tensor:
        return F.resize(some, [size, size], antialias=True) if bound else some

    encoders: dict[str, Encode] = {
        name: partial(_tokens, network, normalise=normalise, device=device, clip=frames)
        for name, network in networks.items()
    }
    if pixels:
        encoders["pixels"] = lambda some: patches(some.to(device), patch)
    found = {}
    for name, encode in encoders.items():
        progress(f"{name}: objects of {len(sequences)} sequences")
        tracking = evaluate_davis(
            sequences,
            lambda some, encode=encode: encode(fitted(some)),
            results / name,
            batch=frames or 8,
            **seen,
        )
        found[name] = {"tracking": tracking.as_dict()}
    return found


def _tokens(
    network: Any,
    images: Tensor,
    normalise: Callable[[Tensor], Tensor],
    device: str | torch.device,
    clip: int | None,
) -> Tensor:
    """Tokens (n, h, w, C) of images (n, 3, H, W): one by one, or `clip` at a time."""
    with frozen(network.to(device)):
        if clip is None:
            return network.encoder(normalise(images.to(device))).field.float()
        missing = images[-1:].expand(-len(images) % clip, -1, -1, -1)  # the last, held
        clips = torch.cat([images, missing]).unflatten(0, (-1, clip))
        field = network.encoder(normalise(clips.to(device))).field.float()
        rows = field.repeat_interleave(clip // field.shape[1], 1)
        return rows.flatten(0, 1)[: len(images)]
