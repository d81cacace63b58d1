"""Labels carried from the frames where objects are given to all later ones, by likeness."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize, one_hot

from levyjepa.checks import count, floating, positive
from levyjepa.evaluation.tracking.metrics import VOID
from levyjepa.inference import jump_probability
from levyjepa.laws import Law

TILE = 8  # tokens a side
CUT = 0.9  # of a frame's tokens jump at a cut


@torch.no_grad()
def propagate(
    tokens: Iterable[Tensor],
    given: Mapping[int, Tensor],
    *,
    last: int = 7,
    radius: int = 12,
    top: int = 5,
    temperature: float = 0.1,
    jump: Tensor | None = None,
) -> Tensor:
    """Follow objects through a clip: each token takes the labels of the tokens most like it.

    DINO's protocol: a token's label is the mean of those of the `top` tokens most like it, weighted
    by exp(cosine / temperature), among those at most `radius` rows and columns away in the frames
    where objects are given and the `last` frames; the labels are interpolated to pixels, each
    class's map is scaled to [0, 1], and the largest wins.

    One frame is compared at a time, in tiles of 8 x 8 tokens: memory is twice that of the n frames
    held (the last ones and those where objects are given), and n (8 + 2 radius)^2 (C + 3 x 64)
    numbers of the tile, whatever h, w and T.

    Args:
        tokens: (h, w, C) for each of the T frames: a tensor (T, h, w, C), or one after another.
        given: Masks (H, W) of uint8 by frame; that of frame 0 must be there. An object that
            appears later stands in the mask of its first frame; 0 says nothing there.
        last: Frames.
        radius: Tokens.
        top: Tokens.
        temperature: Of the softmax.
        jump: (T, h, w), the probability that a token jumped since the frame before, as `time_jumps`
            gives it. Where the scene was cut, by `cuts`, nothing is taken from before: objects
            must be given anew.

    Returns:
        (T, H, W) of uint8 on the masks' device: the id at each pixel, 0 for the background.

    Raises:
        TypeError: Masks that are not of uint8.
        ValueError: No mask of the first frame, masks without an object or of different sizes, a
            mask of a frame that does not come, tokens or probabilities of another shape.
    """
    count("last", last, least=0)
    count("radius", radius, least=0)
    count("top", top)
    positive("temperature", temperature)
    ids = _ids(given)
    size = given[0].shape
    lasting: list[_Frame] = []
    recent: deque[_Frame] = deque(maxlen=last)
    grid, masks = None, []
    for t, features in enumerate(tokens):
        floating("tokens", features, 3, "(h, w, C) of each frame")
        grid = grid or features.shape[:2]
        if features.shape[:2] != grid:
            raise ValueError(f"`tokens` must keep their grid {grid}, got {features.shape[:2]}.")
        features = normalize(features.float(), dim=-1)
        if jump is not None and _cut(jump, t, grid):
            lasting.clear()
            recent.clear()
        if context := [*lasting, *recent]:
            labels = _compare(features, context, radius, top, temperature)
            mask = _decide(labels, ids, size)
        else:
            labels = features.new_zeros(*grid, len(ids))
            labels[..., 0] = 1
            mask = given[0].new_zeros(size)
        frame = _Frame(features, labels)
        if t in given:
            told = torch.where(given[t] == VOID, 0, given[t])
            mask = torch.where(told > 0, told, mask)
            frame.tell(told, ids)
            lasting.append(frame)
        elif last:
            recent.append(frame)
        masks.append(mask)
    if late := sorted(set(given) - set(range(len(masks)))):
        raise ValueError(f"`given` must be of frames below {len(masks)}, got frame {late[0]}.")
    return torch.stack(masks)


def first_masks(masks: Tensor | Mapping[int, Tensor]) -> dict[int, Tensor]:
    """What a tracker is given of a clip's masks: each object in its first frame alone.

    Args:
        masks: (T, H, W) of uint8, or (H, W) by frame where not all are known.
    """
    known = dict(enumerate(masks)) if isinstance(masks, Tensor) else masks
    given, seen = {}, {0, VOID}
    for t, mask in sorted(known.items()):
        new = [number for number in mask.unique().tolist() if number not in seen]
        if new or t == 0:  # the first frame is given even if it holds no object
            given[t] = torch.where(torch.isin(mask, mask.new_tensor(new)), mask, 0)
            seen.update(new)
    return given


def time_jumps(tokens: Tensor, law: Law) -> Tensor:
    """The probability that each token of a clip jumped since the frame before; 0 in the first.

    Args:
        tokens: (T, h, w, C).
        law: The law of a token's change from a frame to the next, Brownian and compound Poisson.

    Returns:
        (T, h, w) in [0, 1].
    """
    floating("tokens", tokens, 4, "(T, h, w, C)")
    steps = tokens.diff(dim=0)
    later = [jump_probability(steps, law, isotropic=True)] if len(steps) else []
    return torch.cat([tokens.new_zeros(1, *tokens.shape[1:3]), *later])


def cuts(jump: Tensor) -> Tensor:
    """Where a scene is cut: at least nine tokens of ten jumped, their probability above one half.

    Args:
        jump: (..., h, w), as `time_jumps` gives it.

    Returns:
        (...) of bool.
    """
    return (jump > 0.5).float().mean((-2, -1)) >= CUT


@dataclass
class _Frame:
    """A frame that labels are taken from."""

    features: Tensor  # (h, w, C), of unit length
    labels: Tensor  # (h, w, K), the background first

    def tell(self, mask: Tensor, ids: Tensor) -> None:
        """Take the objects of a mask (H, W) for granted, at the pixel in each token's middle."""
        grid = self.labels.shape[:2]
        small = interpolate(mask[None, None].float(), grid, mode="nearest-exact")[0, 0]
        place = torch.bucketize(small.long(), ids).to(self.labels.device)
        told = one_hot(place, len(ids)).to(self.labels)
        self.labels = torch.where((place > 0)[..., None], told, self.labels)


def _compare(
    features: Tensor, context: Sequence[_Frame], radius: int, top: int, temperature: float
) -> Tensor:
    """(h, w, K): the labels of a frame's tokens (h, w, C) from those of other frames."""
    height, width = features.shape[:2]
    sources = torch.stack([frame.features for frame in context])
    known = torch.stack([frame.labels for frame in context])
    labels = torch.empty_like(known[0])
    for y, x in product(range(0, height, TILE), range(0, width, TILE)):
        here = slice(y, y + TILE), slice(x, x + TILE)
        around = tuple(slice(max(0, at - radius), at + TILE + radius) for at in (y, x))
        tile = features[here]
        near = _near(here[0], around[0], height, radius, tile.device)[:, None, :, None]
        near = near & _near(here[1], around[1], width, radius, tile.device)[None, :, None, :]
        alike = torch.einsum("yxc,nijc->yxnij", tile, sources[:, *around])
        alike = alike.masked_fill(~near[:, :, None], -torch.inf).flatten(2)
        least = alike.topk(min(top, alike.shape[-1])).values[..., -1:]
        weights = (alike.masked_fill(alike < least, -torch.inf) / temperature).softmax(-1)
        labels[here] = weights @ known[:, *around].flatten(0, 2)
    return labels


def _near(here: slice, around: slice, end: int, radius: int, device: torch.device) -> Tensor:
    """Of the places of two slices along an axis, which pairs are at most `radius` apart."""
    ours, theirs = (torch.arange(*part.indices(end), device=device) for part in (here, around))
    return (ours[:, None] - theirs).abs() <= radius


def _decide(labels: Tensor, ids: Tensor, size: torch.Size) -> Tensor:
    """(H, W): the id at each pixel, of labels (h, w, K)."""
    maps = interpolate(labels.movedim(-1, 0)[None], size, mode="bilinear")[0]
    low, high = (
        extreme(1, keepdim=True) for extreme in (maps.flatten(1).amin, maps.flatten(1).amax)
    )
    spread = (high - low)[..., None]
    scaled = torch.where(spread > 0, (maps - low[..., None]) / spread, maps)
    return ids[scaled.argmax(0).to(ids.device)].to(torch.uint8)


def _cut(jump: Tensor, t: int, grid: Sequence[int]) -> bool:
    if jump.ndim != 3 or tuple(jump.shape[1:]) != tuple(grid) or t >= len(jump):
        raise ValueError(
            f"`jump` must be (T, {grid[0]}, {grid[1]}), T frames, got {tuple(jump.shape)}."
        )
    return bool(cuts(jump[t]))


def _ids(given: Mapping[int, Tensor]) -> Tensor:
    """The ids of all objects, in order, after 0."""
    if 0 not in given:
        raise ValueError("`given` must hold a mask of the first frame, got none.")
    for t, mask in given.items():
        if mask.dtype != torch.uint8:
            raise TypeError(f"`given` must hold masks of uint8, got {mask.dtype} at frame {t}.")
        if mask.ndim != 2 or mask.shape != given[0].shape:
            raise ValueError(
                f"`given` must hold masks (H, W) of one size, got {tuple(mask.shape)} at frame {t} "
                f"and {tuple(given[0].shape)} at frame 0."
            )
    found = torch.cat([mask.flatten() for mask in given.values()]).unique()
    ids = found[(found > 0) & (found != VOID)]
    if not len(ids):
        raise ValueError("`given` must hold an object, got background alone.")
    return torch.cat([ids.new_zeros(1), ids]).long()
