"""How well objects are followed: DAVIS 2017's region similarity J and contour accuracy F."""

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch
from scipy.spatial import KDTree
from torch import Tensor

from levyjepa.checks import positive
from levyjepa.evaluation.boundaries import find_boundaries

TOLERANCE = 0.008  # of the diagonal

Array = TypeVar("Array", np.ndarray, Tensor)


@dataclass(frozen=True)
class Measure:
    """One measure of one object over its frames, or a mean of such."""

    mean: float
    recall: float  # the share of frames above one half
    decay: float  # the mean of the first quarter less that of the last

    @classmethod
    def of(cls, values: np.ndarray) -> "Measure":
        """Summarise the values (T,) of frames, T at least 1."""
        ends = np.round(np.linspace(1, len(values), 5) + 1e-10).astype(int) - 1
        first, last = values[: ends[1] + 1], values[ends[3] :]
        return cls(
            float(values.mean()), float((values > 0.5).mean()), float(first.mean() - last.mean())
        )


@dataclass(frozen=True)
class ObjectScore:
    """How well one object of one sequence was followed."""

    sequence: str
    object: int
    region: Measure  # J
    contour: Measure  # F
    values: np.ndarray = field(compare=False, repr=False)  # (T,), J&F of each judged frame
    seen: np.ndarray = field(compare=False, repr=False)  # (T,) of bool: the object is to be seen

    @property
    def j_and_f(self) -> float:
        """The mean of J's and F's means."""
        return (self.region.mean + self.contour.mean) / 2


@dataclass(frozen=True)
class Tracking:
    """How well the objects of several sequences were followed; means are over objects.

    `there` and `gone` are J&F over the frames, of all objects together, in which the object is to
    be seen and in which it is not, None without such frames. In the latter, J&F is 1 without a
    pixel of it and 0 with one.
    """

    objects: tuple[ObjectScore, ...]

    @property
    def region(self) -> Measure:
        """J."""
        return _mean([one.region for one in self.objects])

    @property
    def contour(self) -> Measure:
        """F."""
        return _mean([one.contour for one in self.objects])

    @property
    def j_and_f(self) -> float:
        """The mean of J's and F's means."""
        return (self.region.mean + self.contour.mean) / 2

    @property
    def there(self) -> float | None:
        """J&F over the frames in which an object is to be seen."""
        return self._over(True)

    @property
    def gone(self) -> float | None:
        """J&F over the frames in which an object is not to be seen."""
        return self._over(False)

    def _over(self, seen: bool) -> float | None:
        values = np.concatenate([one.values[one.seen == seen] for one in self.objects])
        return float(values.mean()) if len(values) else None

    @property
    def sequences(self) -> dict[str, float]:
        """J&F of each sequence."""
        held = defaultdict(list)
        for one in self.objects:
            held[one.sequence].append(one.j_and_f)
        return {name: float(np.mean(values)) for name, values in held.items()}

    def as_dict(self) -> dict[str, Any]:
        """The numbers that DAVIS's own tool writes."""
        parts = {"j": self.region, "f": self.contour}
        return {
            "j_and_f": self.j_and_f,
            **{
                f"{name}_{key}": getattr(measure, key)
                for name, measure in parts.items()
                for key in ("mean", "recall", "decay")
            },
            "objects": len(self.objects),
            "sequences": len(self.sequences),
        }


def region_similarity(annotation: Array, prediction: Array, void: Array | None = None) -> Array:
    """The Jaccard index J = |A ∩ P| / |A ∪ P| of each frame, 1 where both are empty.

    Args:
        annotation: (T, H, W) of bool, an array or a tensor.
        prediction: The same.
        void: Pixels that count for nothing; none if None.

    Returns:
        (T,) of float64, an array or a tensor as the annotation is.

    Raises:
        TypeError: Masks that are not of bool.
        ValueError: Masks of other or of different shapes.
    """
    a, p = _masks(annotation, prediction, void)
    both, either = (a & p).sum((1, 2)), (a | p).sum((1, 2))
    return _like(annotation, np.where(either == 0, 1.0, both / np.maximum(either, 1)))


def contour_accuracy(
    annotation: Array, prediction: Array, void: Array | None = None, tolerance: float = TOLERANCE
) -> Array:
    """The harmonic mean F of contour precision and recall of each frame.

    Precision is the share of the prediction's boundary within the tolerance of the annotation's,
    recall the reverse. F is 1 where neither has a boundary, 0 where one has none.

    Args:
        annotation: (T, H, W) of bool, an array or a tensor.
        prediction: The same.
        void: Pixels that count for nothing; none if None.
        tolerance: A fraction of the diagonal, rounded up to whole pixels.

    Returns:
        (T,) of float64, an array or a tensor as the annotation is.

    Raises:
        TypeError: Masks that are not of bool.
        ValueError: Masks of other or of different shapes.
    """
    masks = _masks(annotation, prediction, void)
    reach = math.ceil(positive("tolerance", tolerance) * math.hypot(*masks[0].shape[1:]))
    a, p = (find_boundaries(torch.from_numpy(mask)) for mask in masks)
    drawn, claimed = a.sum((1, 2)), p.sum((1, 2))
    precision = _near(p, a, reach) / np.maximum(claimed, 1)
    recall = _near(a, p, reach) / np.maximum(drawn, 1)
    f = 2 * precision * recall / np.maximum(precision + recall, 1e-300)
    return _like(annotation, np.where((drawn == 0) & (claimed == 0), 1.0, f))


def score(annotation: Tensor, prediction: Tensor, sequence: str = "") -> tuple[ObjectScore, ...]:
    """Judge every object of a sequence by J and F.

    As DAVIS does, the frame in which an object is given and the sequence's last frame are left
    out. An object that first appears later is judged from then on (DAVIS's own tool knows only
    those of the first frame); one that appears in the last two frames is not judged.

    Args:
        annotation: (T, H, W) of uint8: ids of objects, 0 for the background, 255 for void.
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
    scores = []
    for number in _ids(annotation):
        given = int((annotation == number).flatten(1).any(1).int().argmax())
        judged = slice(given + 1, -1)
        masks = annotation[judged] == number, prediction[judged] == number
        if len(masks[0]):
            void = annotation[judged] == VOID
            j, f = (
                measure(*masks, void).numpy() for measure in (region_similarity, contour_accuracy)
            )
            seen = (masks[0] & ~void).flatten(1).any(1).numpy()
            measures = Measure.of(j), Measure.of(f)
            scores.append(ObjectScore(sequence, number, *measures, (j + f) / 2, seen))
    return tuple(scores)


VOID = 255


def _ids(masks: Tensor) -> list[int]:
    return [number for number in masks.unique().tolist() if number not in (0, VOID)]


def _near(points: np.ndarray, others: np.ndarray, reach: int) -> np.ndarray:
    """(T,): how many of the points of each frame have another of it at most `reach` away."""
    apart = np.array([2.0 * reach + 2, 1, 1])  # frames lie farther apart than that
    there, at = np.argwhere(others) * apart, np.argwhere(points)
    if not len(there):
        return np.zeros(len(points))
    found, _ = KDTree(there).query(at * apart, distance_upper_bound=reach + 0.5)
    return np.bincount(at[found <= reach, 0], minlength=len(points))


def _masks(annotation: Any, prediction: Any, void: Any) -> tuple[np.ndarray, np.ndarray]:
    held = {"annotation": annotation, "prediction": prediction}
    if void is not None:
        held["void"] = void
    masks = {
        name: mask.numpy(force=True) if isinstance(mask, Tensor) else np.asarray(mask)
        for name, mask in held.items()
    }
    shape = masks["annotation"].shape
    for name, mask in masks.items():
        if mask.dtype != bool:
            raise TypeError(f"`{name}` must be of bool, got {mask.dtype}.")
        if mask.ndim != 3 or 0 in mask.shape:
            raise ValueError(f"`{name}` must be (T, H, W), none of them 0, got {mask.shape}.")
        if mask.shape != shape:
            raise ValueError(
                f"`{name}` must be as large as `annotation` {shape}, got {mask.shape}."
            )
    seen = ~masks["void"] if "void" in masks else True
    return masks["annotation"] & seen, masks["prediction"] & seen


def _like(wanted: Any, values: np.ndarray) -> Any:
    return torch.from_numpy(values) if isinstance(wanted, Tensor) else values


def _mean(measures: list[Measure]) -> Measure:
    if not measures:
        raise ValueError("`objects` must hold at least one object, got none.")
    table = np.array([[m.mean, m.recall, m.decay] for m in measures])
    return Measure(*table.mean(0).tolist())
