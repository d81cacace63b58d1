"""95 % intervals over the choice of clips, by drawing clips with replacement."""

import numpy as np

DRAWS = 1000
ENDS = 0.025, 0.975

Interval = tuple[float, float]


def redraw(clips: int, seed: int = 0) -> np.ndarray:
    """(1000, clips): how often each clip is among as many, drawn with replacement."""
    return np.random.default_rng(seed).multinomial(clips, np.full(clips, 1 / clips), DRAWS)


def of_ratio(
    above: np.ndarray, below: np.ndarray, clip: np.ndarray, drawn: np.ndarray
) -> Interval | None:
    """The interval of sum(above) / sum(below); None of one clip.

    Args:
        above: (n,).
        below: (n,).
        clip: (n,), the clip that each is of.
        drawn: As `redraw` gives.
    """
    tops, bottoms = (drawn @ np.bincount(clip, each, drawn.shape[1]) for each in (above, below))
    return _ends(tops, bottoms, drawn)


def of_average_precision(
    truth: np.ndarray, size: np.ndarray, clip: np.ndarray, drawn: np.ndarray
) -> Interval | None:
    """The interval of the average precision, sum (R_k - R_{k-1}) P_k; None of one clip.

    Args:
        truth: (n,) of bool.
        size: (n,), larger where the truth is said to be likelier.
        clip: (n,), the clip that each is of.
        drawn: As `redraw` gives.
    """
    order = np.argsort(-size)
    truth, size, clip = truth[order], size[order], clip[order]
    last = np.append(size[1:] != size[:-1], True)  # of equals
    tops, bottoms = np.empty((2, len(drawn)))
    for place, often in enumerate(drawn):
        weights = often[clip]
        hits, all_ = (np.cumsum(each)[last] for each in (weights * truth, weights))
        tops[place] = (np.diff(hits, prepend=0) * hits / np.maximum(all_, 1)).sum()
        bottoms[place] = hits[-1]
    return _ends(tops, bottoms, drawn)


def _ends(tops: np.ndarray, bottoms: np.ndarray, drawn: np.ndarray) -> Interval | None:
    """Of the ratios of draws, those that hold nothing to divide by left out."""
    some = bottoms > 0
    if drawn.shape[1] < 2 or not some.any():
        return None
    low, high = np.quantile(tops[some] / bottoms[some], ENDS)
    return float(low), float(high)


def told(intervals: dict[str, Interval | None]) -> dict[str, dict[str, Interval]]:
    """The intervals that there are, as a leaf of `evaluation.json` holds them."""
    return {"intervals": {name: ends for name, ends in intervals.items() if ends is not None}}
