"""Objects followed through a clip by the likeness of tokens, and DAVIS 2017's measures."""

from levyjepa.evaluation.tracking.davis import (
    VideoSequence,
    evaluate_davis,
    open_davis,
    score_results,
    track,
    write_clips,
    write_masks,
)
from levyjepa.evaluation.tracking.metrics import (
    Measure,
    ObjectScore,
    Tracking,
    contour_accuracy,
    region_similarity,
    score,
)
from levyjepa.evaluation.tracking.propagation import cuts, first_masks, propagate, time_jumps

__all__ = [
    "Measure",
    "ObjectScore",
    "Tracking",
    "VideoSequence",
    "contour_accuracy",
    "cuts",
    "evaluate_davis",
    "first_masks",
    "open_davis",
    "propagate",
    "region_similarity",
    "score",
    "score_results",
    "time_jumps",
    "track",
    "write_clips",
    "write_masks",
]
