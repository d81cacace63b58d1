"""95 % intervals over the choice of clips, by drawing clips with replacement."""

import numpy as np

DRAWS = 1000
ENDS = 0.025, 0.975

Interval = tuple[float, float]


def resample(clips: int, seed: int = 0) -> np.ndarray:
    """Return how often each clip is drawn, (1000, clips), as many drawn with replacement."""
    return np.random.default_rng(seed).multinomial(clips, np.full(clips, 1 / clips), DRAWS)


def ratio_interval(
    numerator: np.ndarray, denominator: np.ndarray, clip: np.ndarray, draws: np.ndarray
) -> Interval | None:
    """Return the interval of sum(numerator) / sum(denominator); None if there is one clip.

    All are (n,), `clip` the index of the clip that each belongs to; `draws` are from `resample`.
    """
    tops, bottoms = (
        draws @ np.bincount(clip, values, draws.shape[1]) for values in (numerator, denominator)
    )
    return _interval(tops, bottoms, draws)


def average_precision_interval(
    truth: np.ndarray, value: np.ndarray, clip: np.ndarray, draws: np.ndarray
) -> Interval | None:
    """Return the interval of the average precision, sum (R_k - R_{k-1}) P_k.

    It is None if there is one clip, or none with a true item; arguments are as of `ratio_interval`,
    with a `value` that is larger where `truth` is likelier.
    """
    order = np.argsort(-value)
    truth, value, clip = truth[order], value[order], clip[order]
    last = np.append(value[1:] != value[:-1], True)  # of equals
    tops, bottoms = np.empty((2, len(draws)))
    for place, often in enumerate(draws):
        weights = often[clip]
        hits, claims = (np.cumsum(values)[last] for values in (weights * truth, weights))
        tops[place] = (np.diff(hits, prepend=0) * hits / np.maximum(claims, 1)).sum()
        bottoms[place] = hits[-1]
    return _interval(tops, bottoms, draws)


def _interval(tops: np.ndarray, bottoms: np.ndarray, draws: np.ndarray) -> Interval | None:
    """Quantiles of the ratios; draws with nothing to divide by are left out."""
    usable = bottoms > 0
    if draws.shape[1] < 2 or not usable.any():
        return None
    low, high = np.quantile(tops[usable] / bottoms[usable], ENDS)
    return float(low), float(high)
