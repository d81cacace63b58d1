"""Clips with what is true of their pixels."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from levyjepa.checks import count
from levyjepa.data.moving_digits import DigitClip, MovingDigits
from levyjepa.data.segmentation import VOID

Clips = Sequence[DigitClip] | MovingDigits


@dataclass(frozen=True)
class KnownClips:
    """Clips with what is true of their pixels."""

    frames: Tensor  # (N, T, 3, H, W) of uint8
    masks: Tensor  # (N, T, H, W) of uint8: ids of objects
    digits: Tensor  # (N, T, H, W) of int64: 0 to 9, or void
    jumped: Tensor  # (N, T, H, W) of bool: shows what jumped since the frame before, or did before
    cut: Tensor  # (N, T) of bool


def read_clips(name: str, clips: Clips, limit: int | None) -> KnownClips:
    """At most `limit` clips, evenly spaced; ValueError of `name` where they are no such clips."""
    number = len(clips)
    kept = number if limit is None else min(count("limit", limit), number)
    several = [clips[place * number // kept] for place in range(kept)]
    if not several:
        raise ValueError(f"`{name}` must hold at least one clip, got none.")
    if len(shapes := {tuple(clip.frames.shape) for clip in several}) > 1:
        raise ValueError(f"`{name}` must hold clips of one shape, got {sorted(shapes)}.")
    if len(several[0].frames) < 3:
        raise ValueError(
            f"`{name}` must hold clips of at least three frames, got {len(several[0].frames)}."
        )
    truths = zip(*map(_truth, several), strict=True)
    frames, masks = (torch.stack([getattr(c, k) for c in several]) for k in ("frames", "masks"))
    return KnownClips(frames, masks, *map(torch.stack, truths))


def _truth(clip: DigitClip) -> tuple[Tensor, Tensor, Tensor]:
    """The digits, what jumped and the cuts of a clip, as `KnownClips` holds them."""
    digits = torch.tensor([VOID, *(each.digit for each in clip.identities)])
    jumped = torch.zeros(clip.masks.shape, dtype=torch.bool)
    cut = torch.zeros(len(clip.masks), dtype=torch.bool)
    for event in clip.events:
        if event.kind == "cut":
            cut[event.frame] = jumped[event.frame] = True
        elif event.kind != "bounce":
            shown = clip.masks[event.frame - 1 : event.frame + 1] == event.object
            jumped[event.frame] |= shown.any(0)
    return digits[clip.masks.long()], jumped, cut


def frames_of(tokens: Tensor, clips: KnownClips) -> int:
    """How many frames a token covers."""
    return clips.frames.shape[1] // tokens.shape[1]
