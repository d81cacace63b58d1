"""Where tokens of clips jump in time, beside what is known of it."""

from typing import Any

import numpy as np
import torch
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from levyjepa.evaluation.bootstrap import of_average_precision, of_ratio, told
from levyjepa.evaluation.clips.truth import KnownClips, frames_of

COVERED = 1 / 8  # of a token's pixels

Asked = tuple[np.ndarray, np.ndarray, np.ndarray]  # truths of bool, scores, and their clips
Found = dict[str, Asked]  # by question


def size_of_steps(tokens: Tensor, clips: KnownClips) -> Found:
    """Where tokens jumped, the size of their steps, and of which clips they are."""
    size = tokens.diff(dim=1).norm(dim=-1)
    several, (height, width) = frames_of(tokens, clips), tokens.shape[2:4]

    def between(changed: Tensor) -> Tensor:  # (N, T, ...) to (N, t - 1, ...)
        return changed[:, 1:].unfold(1, 2 * several - 1, several).any(-1)

    jumped = between(clips.jumped)
    shown = (clips.masks > 0).unfold(1, 2 * several, several).any(-1)
    covered, objects = (
        adaptive_avg_pool2d(pixels.float(), (height, width)) for pixels in (jumped, shown)
    )
    truth = covered >= COVERED
    judged = truth | (covered == 0)
    calm = judged & (objects >= COVERED) & ~between(clips.cut)[..., None, None]
    every = torch.ones(size.shape[:2], dtype=torch.bool)
    questions = {
        "everywhere": (truth, size, judged),
        "objects": (truth, size, calm),
        "frames": (jumped.flatten(2).any(-1), size.amax((2, 3)), every),
    }
    return {
        name: (true[asked].numpy(), scores[asked].numpy(), asked.nonzero()[:, 0].numpy())
        for name, (true, scores, asked) in questions.items()
    }


def find_jumps(train: Found, test: Found, drawn: np.ndarray) -> dict[str, Any]:
    """How well jumps are found in test clips, at thresholds of the training clips, by question."""
    return {question: _detect(train[question], test[question], drawn) for question in test}


def _detect(train: Asked, test: Asked, drawn: np.ndarray) -> dict[str, Any]:
    """Average precision, and F1 at the threshold that is best where the truth is known."""
    (known, seen, _), (truth, size, clip) = train, test
    if not (known.any() and truth.any()):
        return {"missing": "Nothing jumps in the training clips or in the test clips."}
    precision, recall, thresholds = precision_recall_curve(known, seen)
    f = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    threshold = thresholds[f[:-1].argmax()]
    said = size >= threshold
    chance = truth.mean()
    return {
        "average_precision": float(average_precision_score(truth, size)),
        "f1": float(f1_score(truth, said)),
        "threshold": float(threshold),
        "chance": float(chance),
        "chance_f1": float(2 * chance / (1 + chance)),
        "n": len(truth),
    } | told(
        {
            "average_precision": of_average_precision(truth, size, clip, drawn),
            "f1": of_ratio(2.0 * (said & truth), 1.0 * said + truth, clip, drawn),
        }
    )
