"""DAVIS 2017's region similarity J and contour accuracy F."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from scipy.spatial import KDTree
from torch import Tensor

from levyjepa.checks import positive

TOLERANCE = 0.008  # of the diagonal
VOID = 255  # in masks of object ids: pixels that are not evaluated

Array = TypeVar("Array", np.ndarray, Tensor)


@dataclass(frozen=True)
class FrameMeasure:
    """J or F of one object over its frames, or the mean over objects."""

    mean: float
    recall: float  # share of frames above one half
    decay: float  # mean of the first quarter minus mean of the last

    @classmethod
    def of(cls, values: np.ndarray) -> "FrameMeasure":
        """Summarize the values (T,) of frames, T at least 1."""
        ends = np.round(np.linspace(1, len(values), 5) + 1e-10).astype(int) - 1
        decay = values[: ends[1] + 1].mean() - values[ends[3] :].mean()
        return cls(float(values.mean()), float((values > 0.5).mean()), float(decay))


@dataclass(frozen=True)
class TrackedObject:
    """How well one object of a sequence was followed."""

    sequence: str
    object: int
    region: FrameMeasure  # J
    contour: FrameMeasure  # F
    values: np.ndarray = field(compare=False, repr=False)  # (T,), J&F of each evaluated frame
    visible: np.ndarray = field(compare=False, repr=False)  # (T,) bool: the object is in the frame

    @property
    def j_and_f(self) -> float:
        """Mean of J and F."""
        return (self.region.mean + self.contour.mean) / 2


class Tracking:
    """How well the objects of several sequences were followed; means are over objects.

    `visible` and `absent` are J&F over all frames in which an object is visible, and over those in
    which it is not; None without such frames. In a frame without the object, J&F is 1 if no pixel
    is labeled as the object, and 0 otherwise.

    Args:
        objects: One at least.
    """

    def __init__(self, objects: Sequence[TrackedObject]) -> None:
        if not objects:
            raise ValueError("`objects` must hold at least one object, got none.")
        self.objects = tuple(objects)
        self.region, self.contour = (  # J, F
            FrameMeasure(*np.mean([[m.mean, m.recall, m.decay] for m in measures], 0).tolist())
            for measures in ([o.region for o in objects], [o.contour for o in objects])
        )
        self.j_and_f = (self.region.mean + self.contour.mean) / 2
        values = np.concatenate([one.values for one in objects])
        seen = np.concatenate([one.visible for one in objects])
        self.visible, self.absent = (
            float(part.mean()) if len(part) else None for part in (values[seen], values[~seen])
        )
        by_sequence = defaultdict(list)
        for one in objects:
            by_sequence[one.sequence].append(one.j_and_f)
        self.sequences = {name: float(np.mean(some)) for name, some in by_sequence.items()}


def region_similarity(annotation: Array, prediction: Array, void: Array | None = None) -> Array:
    """Return the Jaccard index J = |A ∩ P| / |A ∪ P| of each frame, 1 where both are empty.

    Args:
        annotation: (T, H, W) bool, an array or a tensor.
        prediction: The same.
        void: (T, H, W) bool, pixels that are not evaluated; None: all are.

    Returns:
        (T,) float64, an array or a tensor as the annotation is.

    Raises:
        TypeError: Masks that are not bool.
        ValueError: Masks of other or of different shapes.
    """
    a, p = _check_masks(annotation, prediction, void)
    intersection, union = (a & p).sum((1, 2)), (a | p).sum((1, 2))
    return _like(annotation, np.where(union == 0, 1.0, intersection / np.maximum(union, 1)))


def contour_accuracy(
    annotation: Array, prediction: Array, void: Array | None = None, tolerance: float = TOLERANCE
) -> Array:
    """Return the harmonic mean F of contour precision and recall of each frame.

    Precision is the share of the predicted contour within the tolerance of the annotated one,
    recall the reverse. F is 1 where neither mask has a contour, 0 where one has none.

    Args:
        annotation, prediction, void: As of `region_similarity`.
        tolerance: As a fraction of the diagonal, rounded up to whole pixels.

    Returns:
        (T,) float64, an array or a tensor as the annotation is.

    Raises:
        TypeError: Masks that are not bool.
        ValueError: Masks of other or of different shapes.

    Source:
        Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object
        Segmentation", CVPR 2016.
    """
    masks = _check_masks(annotation, prediction, void)
    radius = math.ceil(positive("tolerance", tolerance) * math.hypot(*masks[0].shape[1:]))
    a, p = map(_contours, masks)
    annotated, predicted = a.sum((1, 2)), p.sum((1, 2))
    precision = _close(p, a, radius) / np.maximum(predicted, 1)
    recall = _close(a, p, radius) / np.maximum(annotated, 1)
    f = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    return _like(annotation, np.where((annotated == 0) & (predicted == 0), 1.0, f))


def score(annotation: Tensor, prediction: Tensor, sequence: str = "") -> tuple[TrackedObject, ...]:
    """Measure J and F of every object of a sequence.

    As in DAVIS, the frame in which an object's mask is given and the last frame of the sequence are
    left out. An object that first appears later is evaluated from then on (DAVIS's own tool only
    knows objects of the first frame); one that appears in the last two frames is left out.

    Args:
        annotation: (T, H, W) uint8: ids of objects, 0 for the background, 255 for void.
        prediction: The same without void.
        sequence: Its name.

    Raises:
        ValueError: Masks of other or of different shapes.
    """
    if annotation.ndim != 3 or annotation.shape != prediction.shape:
        raise ValueError(
            "`annotation` and `prediction` must both be (T, H, W), got "
            f"{tuple(annotation.shape)} and {tuple(prediction.shape)}."
        )
    objects, (true, predicted) = [], (part.numpy(force=True) for part in (annotation, prediction))
    for number in np.unique(true[:-2]).tolist():
        if number in (0, VOID):
            continue
        frames = slice((true == number).any((1, 2)).argmax() + 1, -1)
        void = true[frames] == VOID
        masks = true[frames] == number, predicted[frames] == number
        j, f = (measure(*masks, void) for measure in (region_similarity, contour_accuracy))
        measures, visible = (FrameMeasure.of(j), FrameMeasure.of(f)), masks[0].any((1, 2))
        objects.append(TrackedObject(sequence, number, *measures, (j + f) / 2, visible))
    return tuple(objects)


def _contours(masks: np.ndarray) -> np.ndarray:
    """Pixels (T, H, W) whose neighbor to the right, below or diagonally below differs."""
    padded = np.pad(masks, ((0, 0), (0, 1), (0, 1)), mode="edge")
    right, below, diagonal = padded[:, :-1, 1:], padded[:, 1:, :-1], padded[:, 1:, 1:]
    return (masks ^ right) | (masks ^ below) | (masks ^ diagonal)


def _close(points: np.ndarray, others: np.ndarray, radius: int) -> np.ndarray:
    """How many points of each frame have one of the others within the radius, (T,)."""
    scale = np.array([2.0 * radius + 2, 1, 1])  # frames lie farther apart than the radius
    targets, queries = np.argwhere(others) * scale, np.argwhere(points)
    if not len(targets):
        return np.zeros(len(points))
    distance, _ = KDTree(targets).query(queries * scale, distance_upper_bound=radius + 0.5)
    return np.bincount(queries[distance <= radius, 0], minlength=len(points))


def _check_masks(annotation: Any, prediction: Any, void: Any) -> tuple[np.ndarray, np.ndarray]:
    masks = {"annotation": annotation, "prediction": prediction}
    masks |= {} if void is None else {"void": void}
    for name, mask in masks.items():
        mask = mask.numpy(force=True) if isinstance(mask, Tensor) else np.asarray(mask)
        masks[name] = mask
        if mask.dtype != bool:
            raise TypeError(f"`{name}` must be bool, got {mask.dtype}.")
        if mask.ndim != 3 or 0 in mask.shape:
            raise ValueError(f"`{name}` must be (T, H, W), none of them 0, got {mask.shape}.")
        if mask.shape != masks["annotation"].shape:
            shape = f"{masks['annotation'].shape} of `annotation`"
            raise ValueError(f"`{name}` must have the shape {shape}, got {mask.shape}.")
    valid = ~masks["void"] if "void" in masks else True
    return masks["annotation"] & valid, masks["prediction"] & valid


def _like(annotation: Any, values: np.ndarray) -> Any:
    return torch.from_numpy(values) if isinstance(annotation, Tensor) else values
