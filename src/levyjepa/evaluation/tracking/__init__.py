"""Objects followed through a clip by the likeness of tokens, and DAVIS 2017's measures."""

from levyjepa.evaluation.tracking.davis import evaluate_davis, score_results, track
from levyjepa.evaluation.tracking.judge import judge_sequences
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
    "contour_accuracy",
    "cuts",
    "evaluate_davis",
    "first_masks",
    "judge_sequences",
    "propagate",
    "region_similarity",
    "score",
    "score_results",
    "time_jumps",
    "track",
]
