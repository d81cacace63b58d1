"""Label propagation: from masks of first frames to all later ones, by the similarity of tokens."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import product

import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize, one_hot

from levyjepa.checks import count, floating, positive
from levyjepa.inference import jump_probability
from levyjepa.laws import Law
from levyjepa.tasks.tracking.davis_measures import VOID

TILE = 8  # tokens a side
CUT = 0.9  # share of a frame's tokens that jump at a cut

Frame = tuple[Tensor, Tensor]  # tokens (h, w, C) of unit length; labels (h, w, K), background first


@torch.no_grad()
def propagate(
    tokens: Iterable[Tensor],
    masks: Mapping[int, Tensor],
    *,
    last: int = 7,
    radius: int = 12,
    top: int = 5,
    temperature: float = 0.1,
    jump: Tensor | None = None,
) -> Tensor:
    """Follow objects through a clip: each token takes the labels of the most similar tokens.

    A token's label is the mean label of the `top` tokens with the largest cosine similarity,
    weighted by exp(cosine / temperature). Candidates lie at most `radius` rows and columns away, in
    the `last` frames or in frames with masks. Labels are interpolated to pixels, the map of each
    class is scaled to [0, 1], and the largest wins.

    Tokens are compared frame by frame, in tiles of 8 x 8: with n frames in memory, a tile needs
    n (8 + 2 radius)^2 (C + 3 x 64) numbers, whatever h, w and T.

    Args:
        tokens: (h, w, C) of each of the T frames: a tensor (T, h, w, C), or an iterable.
        masks: Masks (H, W) uint8 by frame, of frame 0 at least. An object that appears later needs
            a mask of its first frame; 0 leaves a pixel to propagation.
        last: Frames.
        radius: Tokens.
        top: Tokens.
        temperature: Of the softmax.
        jump: (T, h, w), from `step_probability`. Nothing is propagated across a cut, where `is_cut`
            holds; objects then need new masks.

    Returns:
        (T, H, W) uint8 on the masks' device: the id of each pixel, 0 for the background.

    Raises:
        TypeError: Masks that are not uint8.
        ValueError: No mask of the first frame, masks without an object or of different sizes, a
            mask of a frame that does not exist, tokens or probabilities of another shape.

    Source:
        Caron et al., "Emerging Properties in Self-Supervised Vision Transformers", ICCV 2021.
    """
    for name, value, least in (("last", last, 0), ("radius", radius, 0), ("top", top, 1)):
        count(name, value, least)
    positive("temperature", temperature)
    ids = _ids(masks)
    size = masks[0].shape
    with_masks: list[Frame] = []
    recent: deque[Frame] = deque(maxlen=last)
    grid, predictions = None, []
    for t, features in enumerate(tokens):
        floating("tokens", features, 3, "(h, w, C) of each frame")
        grid = grid or features.shape[:2]
        if features.shape[:2] != grid:
            raise ValueError(f"`tokens` must all have the grid {grid}, got {features.shape[:2]}.")
        features = normalize(features.float(), dim=-1)
        if jump is not None:
            if jump.shape[1:] != grid or t >= len(jump):
                shape = f"(T, {grid[0]}, {grid[1]}), T frames"
                raise ValueError(f"`jump` must be {shape}, got {tuple(jump.shape)}.")
            if is_cut(jump[t]):
                with_masks.clear()
                recent.clear()
        labels, prediction = features.new_zeros(*grid, len(ids)), masks[0].new_zeros(size)
        labels[..., 0] = 1
        if context := [*with_masks, *recent]:
            labels = _average(features, context, radius, top, temperature)
            prediction = _largest(labels, ids, size)
        if t in masks:
            mask = torch.where(masks[t] == VOID, 0, masks[t])
            prediction = torch.where(mask > 0, mask, prediction)
            with_masks.append((features, _with_mask(labels, mask, ids)))
        else:
            recent.append((features, labels))
        predictions.append(prediction)
    if late := [t for t in sorted(masks) if t not in range(len(predictions))]:
        raise ValueError(
            f"`masks` must be of frames below {len(predictions)}, got frame {late[0]}."
        )
    return torch.stack(predictions)


def first_masks(masks: Tensor | Mapping[int, Tensor]) -> dict[int, Tensor]:
    """Return what `propagate` starts from: each object in its first frame alone.

    Args:
        masks: (T, H, W) uint8, or (H, W) by frame where some have none.
    """
    by_frame = dict(enumerate(masks)) if isinstance(masks, Tensor) else masks
    first: dict[int, Tensor] = {}
    known = {0, VOID}
    for t, mask in sorted(by_frame.items()):
        new = [number for number in mask.unique().tolist() if number not in known]
        if new or t == 0:  # frame 0 is needed even without an object
            first[t] = torch.where(torch.isin(mask, mask.new_tensor(new)), mask, 0)
            known.update(new)
    return first


def step_probability(tokens: Tensor, law: Law) -> Tensor:
    """Return the probability that a token jumped since the previous frame; 0 in the first.

    Args:
        tokens: (..., T, h, w, C).
        law: Law of a token's change from one frame to the next, Brownian and compound Poisson.

    Returns:
        (..., T, h, w) in [0, 1].
    """
    steps = tokens.diff(dim=-4)
    first = torch.zeros_like(tokens[..., :1, :, :, 0])
    if not steps.numel():
        return first
    flat = jump_probability(steps.flatten(0, -2)[None], law, isotropic=True)
    return torch.cat([first, flat.view(steps.shape[:-1])], -3)


def is_cut(jump: Tensor) -> Tensor:
    """Whether the scene is cut: 9 tokens in 10 jumped, with a probability above one half.

    Args:
        jump: (..., h, w), from `step_probability`.

    Returns:
        (...) bool.
    """
    return (jump > 0.5).float().mean((-2, -1)) >= CUT


def _with_mask(labels: Tensor, mask: Tensor, ids: Tensor) -> Tensor:
    """Labels (h, w, K) with the objects of a mask (H, W), at the pixel in each token's middle."""
    small = interpolate(mask[None, None].float(), labels.shape[:2], mode="nearest-exact")[0, 0]
    number = torch.bucketize(small.long(), ids).to(labels.device)
    return torch.where((number > 0)[..., None], one_hot(number, len(ids)).to(labels), labels)


def _average(
    features: Tensor, context: Sequence[Frame], radius: int, top: int, temperature: float
) -> Tensor:
    """Labels (h, w, K) of a frame's tokens (h, w, C) from those of other frames."""
    height, width = features.shape[:2]
    sources, known = (torch.stack(part) for part in zip(*context, strict=True))
    labels = torch.empty_like(known[0])
    for y, x in product(range(0, height, TILE), range(0, width, TILE)):
        tile = slice(y, y + TILE), slice(x, x + TILE)
        around = tuple(slice(max(0, at - radius), at + TILE + radius) for at in (y, x))
        near = _near(tile[0], around[0], height, radius, features.device)[:, None, :, None]
        near = near & _near(tile[1], around[1], width, radius, features.device)[None, :, None, :]
        cosine = torch.einsum("yxc,nijc->yxnij", features[tile], sources[:, *around])
        cosine = cosine.masked_fill(~near[:, :, None], -torch.inf).flatten(2)
        least = cosine.topk(min(top, cosine.shape[-1])).values[..., -1:]
        weights = (cosine.masked_fill(cosine < least, -torch.inf) / temperature).softmax(-1)
        labels[tile] = weights @ known[:, *around].flatten(0, 2)
    return labels


def _near(tile: slice, around: slice, end: int, radius: int, device: torch.device) -> Tensor:
    """Which places of two slices along an axis are at most `radius` apart."""
    ours, theirs = (torch.arange(*part.indices(end), device=device) for part in (tile, around))
    return (ours[:, None] - theirs).abs() <= radius


def _largest(labels: Tensor, ids: Tensor, size: torch.Size) -> Tensor:
    """The id of each pixel (H, W), of labels (h, w, K)."""
    maps = interpolate(labels.movedim(-1, 0)[None], size, mode="bilinear")[0]
    low = maps.amin((1, 2), keepdim=True)
    spread = maps.amax((1, 2), keepdim=True) - low
    scaled = torch.where(spread > 0, (maps - low) / spread, maps)
    return ids[scaled.argmax(0).to(ids.device)].to(torch.uint8)


def _ids(masks: Mapping[int, Tensor]) -> Tensor:
    """The ids of all objects, in order, after 0."""
    if 0 not in masks:
        raise ValueError("`masks` must hold a mask of the first frame, got none.")
    for t, mask in masks.items():
        if mask.dtype != torch.uint8:
            raise TypeError(f"`masks` must be uint8, got {mask.dtype} at frame {t}.")
        if mask.ndim != 2 or mask.shape != masks[0].shape:
            raise ValueError(
                f"`masks` must be (H, W), all of one size, got {tuple(mask.shape)} at frame {t} "
                f"and {tuple(masks[0].shape)} at frame 0."
            )
    found = torch.cat([mask.flatten() for mask in masks.values()]).unique()
    ids = found[(found > 0) & (found != VOID)]
    if not len(ids):
        raise ValueError("`masks` must hold an object, got background alone.")
    return torch.cat([ids.new_zeros(1), ids]).long()
