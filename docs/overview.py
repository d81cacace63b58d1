"""The picture at the top of the README: `python docs/overview.py` writes docs/overview.png."""

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

import levyjepa


def main() -> None:
    """Draw a Brownian sheet, a Lévy sheet of the same variance, and its jumps as they are found."""
    jumps = levyjepa.CompoundPoisson(rate=0.004, jumps=levyjepa.GaussianJumps(sigma=1.0))
    levy = levyjepa.Brownian(sigma=0.03) + jumps
    brownian = levyjepa.Brownian(sigma=float(levy.variance()) ** 0.5)
    generator = torch.Generator().manual_seed(7)
    grid, box = (48, 48), levyjepa.box(2)
    sheets = [
        levyjepa.sample_sheet(law, box, grid, channels=3, batch=1, generator=generator)
        for law in (brownian, levy)
    ]
    moves = levyjepa.increments(sheets[1], box)
    probability = levyjepa.jump_probability(moves, levy, isotropic=True)[0].reshape(47, 47)
    figure = Figure(figsize=(9, 3.3), dpi=160, layout="constrained")
    titles = ("Gaussian increments", "Lévy sheet: smooth, with jumps", "its jumps, as found")
    for axes, title, picture in zip(
        figure.subplots(1, 3), titles, (*map(_colors, sheets), probability.numpy()), strict=True
    ):
        axes.imshow(picture, cmap="magma", interpolation="nearest")
        axes.set_title(title, fontsize=11, color="#808080")
        axes.set_axis_off()
    figure.patch.set_alpha(0)
    figure.savefig(Path(__file__).with_suffix(".png"))


def _colors(sheet: torch.Tensor) -> np.ndarray:
    """Three channels of a sheet as red, green and blue, ranks as brightness."""
    channels = sheet[0].movedim(-1, 0).flatten(1)
    ranks = channels.argsort(1).argsort(1).float() / channels.shape[1]
    return ranks.view(3, *sheet.shape[1:3]).movedim(0, -1).numpy()


if __name__ == "__main__":
    main()
