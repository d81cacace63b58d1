"""What a report shows of a network of clips: where tokens step in time, and objects followed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Subset

from levyjepa.conf.schema import DataConfig
from levyjepa.data import Source, normalise, test_loader
from levyjepa.data.moving_digits import DigitClip
from levyjepa.evaluation.arrays import Arrays
from levyjepa.evaluation.features import frozen
from levyjepa.evaluation.tracking import first_masks, propagate

CLIPS = 6
FRAMES = 16  # of a clip, at most
LOOKED_AT = 60  # clips, of which those are shown in which something jumps


def _none() -> np.ndarray:
    return np.empty(0)


@dataclass(frozen=True)
class Filmstrips(Arrays):
    """M clips of F frames, a row of tokens each, and what a network makes of them.

    Where the truth is not known, `truth` and `tracked` hold no clip and there is no event.
    """

    frames: np.ndarray  # (M, F, H, W, 3) of uint8
    steps: np.ndarray  # (M, F, h, w), the largest step of a token since the frame before
    truth: np.ndarray  # (M, F, H, W) of uint8: ids of objects, 0 for the background
    tracked: np.ndarray  # (M, F, H, W) of uint8: the ids, followed from each object's first frame
    events: np.ndarray  # (n, 4): clip, the frame that shows it first, centre (y, x), NaN at a cut
    kinds: np.ndarray  # (n,) of the events: teleport, appear, vanish, bounce, cut
    untrained_steps: np.ndarray = field(default_factory=_none)  # without training, if known
    untrained_tracked: np.ndarray = field(default_factory=_none)


def filmstrips(
    network: Any,
    source: Source,
    config: DataConfig,
    device: str | torch.device = "cpu",
    seed: int = 0,
) -> Filmstrips:
    """Film six test clips, evenly spaced; of scenes, those in which something jumps come first.

    Args:
        network: What was trained, a Network of clips.
        source: The clips.
        config: How they are loaded.
        device: Where tokens are computed.
        seed: Draws the untrained network, as `evaluate` draws it.
    """
    prepare = partial(normalise, mean=source.mean, std=source.std)
    frames, scenes = _chosen(source, config)
    trained, untrained = (
        film(each, frames, prepare, device, scenes, config.stride)
        for each in (network, network.untrained(seed))
    )
    return replace(trained, untrained_steps=untrained.steps, untrained_tracked=untrained.tracked)


def film(
    network: Any,
    frames: Tensor,
    prepare: Callable[[Tensor], Tensor],
    device: str | torch.device = "cpu",
    scenes: Sequence[DigitClip] | None = None,
    stride: int = 1,
) -> Filmstrips:
    """Show what a network makes of clips.

    A token's step is the norm of the change of its projection since the row of tokens before, in
    units of the root mean square over all clips; 0 in the first. Under an isotropic law the
    probability of a jump grows with it and with nothing else.

    Args:
        network: With an `encoder` of clips (B, T, 3, H, W) and a `patch_projection` of its field.
        frames: (M, T, 3, H, W) of uint8.
        prepare: From frames to the encoder's input.
        device: Where tokens are computed.
        scenes: The clips' truth, where it is known.
        stride: From one of `frames` to the next, of the scenes' frames.
    """
    with frozen(network.to(device)):
        tokens = network.encoder(prepare(frames.to(device))).field
        field = network.patch_projection(tokens).float().cpu()
        tokens = tokens.float().cpu()
    rows, several = field.shape[1], frames.shape[1] // field.shape[1]
    kept = torch.linspace(0, rows - 1, min(rows, FRAMES)).round().long()
    norms = torch.cat([field.new_zeros(field[:, :1].shape[:-1]), field.diff(dim=1).norm(dim=-1)], 1)
    size = norms[:, 1:].square().mean().sqrt() if rows > 1 else norms.new_tensor(0.0)
    starts = [0, *(kept[:-1] + 1).tolist()]
    steps = torch.stack(
        [norms[:, a : b + 1].amax(1) for a, b in zip(starts, kept.tolist(), strict=True)], 1
    )
    shown = kept * several
    truth = tracked = torch.empty(0, len(kept), *frames.shape[3:], dtype=torch.uint8)
    events, kinds = [], []
    if scenes:
        masks = torch.stack([clip.masks[::stride] for clip in scenes])
        held = tokens.repeat_interleave(several, 1)
        followed = [propagate(t, first_masks(m)) for t, m in zip(held, masks, strict=True)]
        truth, tracked = masks[:, shown], torch.stack(followed)[:, shown]
        for number, clip in enumerate(scenes):
            for event in clip.events:
                row = -(-event.frame // stride) // several
                if row < rows:
                    place = event.position or (float("nan"), float("nan"))
                    at = int(torch.searchsorted(kept, row))
                    events.append((number, at, *place))
                    kinds.append(event.kind)
    return Filmstrips(
        frames[:, shown].movedim(2, -1).contiguous().numpy(),
        (steps / size if size > 0 else steps).numpy(),
        truth.numpy(),
        tracked.numpy(),
        np.array(events, dtype=np.float32).reshape(-1, 4),
        np.array(kinds, dtype=np.str_),
    )


def _chosen(source: Source, config: DataConfig) -> tuple[Tensor, list[DigitClip] | None]:
    """Frames (M, T, 3, H, W), and the scenes that they are of where those are known."""
    if source.scenes is not None:
        known = source.scenes[1]
        looked = [known[i] for i in _spaced(len(known), LOOKED_AT)]
        some = sorted(looked, key=lambda clip: all(e.kind == "bounce" for e in clip.events))
        scenes = some[:CLIPS]
        return torch.stack([clip.frames[:: config.stride] for clip in scenes]), scenes
    held: Any = source.train if source.test is None else source.test
    few = test_loader(Subset(held, _spaced(len(held), CLIPS)), config)
    return torch.cat([batch.images for batch in few]), None


def _spaced(size: int, count: int) -> list[int]:
    number = min(size, count)
    return [place * size // number for place in range(number)]
