"""Denoise the rows of a photograph without smoothing across probable jumps.

    python examples/denoise.py

The difference of neighboring pixels is modeled as Gaussian noise plus rare jumps, which occur in
red, green and blue together. `jump_probability` returns the probability p of a jump. A row y is
denoised by the x that minimizes |y - x|^2 + strength * sum of (1 - p) |x[i+1] - x[i]|^2. This is a
least-squares problem with a banded matrix. "no jumps" is the same method with p = 0.
"""

import argparse
from functools import partial

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.linalg import solveh_banded
from scipy.ndimage import gaussian_filter1d, median_filter
from sklearn.datasets import load_sample_image

from levyjepa.inference import jump_probability
from levyjepa.laws import Brownian, CompoundPoisson, LaplaceJumps

NOISE = 0.08  # standard deviation; pixel values are in [0, 1]
LAW = Brownian(2**0.5 * NOISE) + CompoundPoisson(0.1, LaplaceJumps(8.0))
COLORS = {"noisy": "#777777", "Gaussian": "#d55e00", "median": "#009e73"}
COLORS |= {"no jumps": "#cc79a7", "Lévy": "#0072b2"}


def jumps(rows: np.ndarray) -> np.ndarray:
    """Return the probability of a jump between neighboring pixels: (n, T, 3) -> (n, T - 1)."""
    return jump_probability(torch.from_numpy(np.diff(rows, axis=1)), LAW, isotropic=True).numpy()


def least_squares(rows: np.ndarray, strength: float, keep_jumps: bool) -> np.ndarray:
    weights = strength * (
        1 - jumps(rows) if keep_jumps else np.ones((len(rows), rows.shape[1] - 1))
    )
    band = np.zeros((len(rows), 2, rows.shape[1]))
    band[:, 0, 1:] = -weights
    band[:, 1] = 1
    band[:, 1, :-1] += weights
    band[:, 1, 1:] += weights
    return np.stack([solveh_banded(a, y) for a, y in zip(band, rows, strict=True)])


def rmse(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(((a - b) ** 2).mean()))


def main(out: str, quick: bool) -> None:
    photo = load_sample_image("china.jpg") / 255
    seeds, stride = (2, 60) if quick else (5, 20)
    tuning, test = photo[::stride], photo[stride // 2 :: stride]
    errors: dict[str, list[float]] = {name: [] for name in COLORS}
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        noisy, y = (part + NOISE * rng.standard_normal(part.shape) for part in (tuning, test))
        methods = {  # with strengths to choose from on the tuning rows
            "noisy": (lambda rows, _: rows, (0,)),
            "Gaussian": (partial(gaussian_filter1d, axis=1), (0.5, 0.7, 1, 1.4, 2, 2.8)),
            "median": (lambda rows, n: median_filter(rows, (1, n, 1)), (3, 5, 7, 9, 11)),
            "no jumps": (partial(least_squares, keep_jumps=False), (0.25, 0.5, 1, 2, 4, 8)),
            "Lévy": (partial(least_squares, keep_jumps=True), (1, 2, 4, 8, 16)),
        }
        results = {}
        for name, (method, grid) in methods.items():
            best = min(grid, key=lambda s, method=method: rmse(method(noisy, s), tuning))
            results[name] = method(y, best)
            errors[name].append(rmse(results[name], test))

    print(f"RMSE of {len(test)} rows of a photograph, noise {NOISE}, n = {seeds} noise samples:")
    for name, values in errors.items():
        print(f"  {name:9s} {np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}")
    draw(out, test, results, jumps(y), errors)


def draw(out, test, results, p, errors):
    row, part = len(test) // 2, slice(250, 420)
    figure = Figure(figsize=(11, 5.2), dpi=130, layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=(3.2, 1), height_ratios=(3, 1))
    signal, where, score = (figure.add_subplot(grid[s]) for s in ((0, 0), (1, 0), np.s_[:, 1]))
    x = np.arange(test.shape[1])[part]
    signal.plot(x, results["noisy"][row, part, 1], ".", color=COLORS["noisy"], label="noisy")
    signal.plot(x, test[row, part, 1], color="black", lw=3, alpha=0.3, label="true")
    for name in ("Gaussian", "Lévy"):
        signal.plot(x, results[name][row, part, 1], color=COLORS[name], label=name)
    signal.set(title="green along one row of the photograph", xticklabels=[], ylabel="brightness")
    signal.legend(ncols=4, fontsize=9)
    where.bar(x + 0.5, p[row, part], width=1, color=COLORS["Lévy"])
    where.set(xlabel="pixel", ylabel="P(jump)", ylim=(0, 1.02), xlim=signal.get_xlim())
    means = [float(np.mean(values)) for values in errors.values()]
    bars = score.bar(list(errors), means, color=list(COLORS.values()))
    score.bar_label(bars, fmt="%.3f", fontsize=9)
    score.tick_params(axis="x", rotation=30)
    score.set_title(f"RMSE, mean of {len(errors['Lévy'])} samples")
    figure.savefig(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="denoise.png", help="path of the picture")
    parser.add_argument("--quick", action="store_true", help="fewer rows and noise samples")
    main(**vars(parser.parse_args()))
