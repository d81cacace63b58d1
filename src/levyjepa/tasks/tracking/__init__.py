"""Objects followed through video by the similarity of tokens, and DAVIS 2017's measures."""

from levyjepa.tasks.tracking.davis_measures import (
    FrameMeasure,
    TrackedObject,
    Tracking,
    contour_accuracy,
    region_similarity,
    score,
)
from levyjepa.tasks.tracking.follow import protocol_size, score_results, track
from levyjepa.tasks.tracking.propagation import first_masks, is_cut, propagate, step_probability

__all__ = [
    "FrameMeasure",
    "TrackedObject",
    "Tracking",
    "contour_accuracy",
    "first_masks",
    "is_cut",
    "propagate",
    "protocol_size",
    "region_similarity",
    "score",
    "score_results",
    "step_probability",
    "track",
]
