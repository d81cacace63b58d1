"""Train a GRU on rows of a photograph, pixel by pixel, with and without the prior.

    python examples/sequence.py

The GRU predicts the next pixel from its state. The prior makes the state nearly constant along a
row, with an expected jump every ten pixels. The script prints two results on held-out columns: the
error of the prediction, and the F1 score of probable jumps as detections of the photograph's edges.
"""

import argparse

import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_sample_image
from sklearn.metrics import f1_score
from torch import Tensor, nn

from levyjepa.inference import jump_probability
from levyjepa.lattice import increments, line
from levyjepa.laws import Brownian, CompoundPoisson, LaplaceJumps
from levyjepa.objectives import LevyRegularizer

LAW = Brownian(0.1) + CompoundPoisson(0.1, LaplaceJumps(1.0))
EDGE = 0.15  # smallest step of a color channel that counts as an edge
SKIP = 8  # first pixels, where the state depends on its start
COLORS = {0.0: "#d55e00", 0.1: "#0072b2"}  # by the weight of the prior


class Model(nn.Module):
    def __init__(self, width: int = 48, dim: int = 16) -> None:
        super().__init__()
        self.gru = nn.GRU(3, width, batch_first=True)
        self.state, self.head = nn.Linear(width, dim), nn.Linear(dim, 3)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Map pixels (B, T, 3) to states (B, T, dim) and predictions of the next pixels."""
        field = self.state(self.gru(pixels)[0])
        return field, self.head(field)


def train(rows: Tensor, weight: float, seed: int, steps: int) -> Model:
    torch.manual_seed(seed)
    model, levy = Model(), LevyRegularizer(LAW, stencils=(line(),))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(steps):
        start = int(torch.randint(rows.shape[1] - 80, ()))
        pixels = rows[torch.randint(len(rows), (32,)), start : start + 80]
        field, prediction = model(pixels)
        loss = (prediction[:, :-1] - pixels[:, 1:]).square().mean() + weight * levy(field)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


def main(out: str, quick: bool) -> None:
    photo = torch.from_numpy(load_sample_image("china.jpg") / 255).float()
    rows, test = photo[:, :480], photo[::2, 480:]
    edges = test.diff(dim=1).abs().amax(-1) > EDGE
    seeds, steps = (1, 20) if quick else (2, 250)
    print(f"{len(test)} rows, n = {seeds} seeds; edges at {edges.float().mean():.2f} of steps")
    curves = {}
    for weight in COLORS:
        for seed in range(seeds):
            model = train(rows, weight, seed, steps)
            with torch.no_grad():
                field, prediction = model(test)
                step = increments(field, line())
                scale = 1.0 if weight else (LAW.variance() / step.square().mean()) ** 0.5
                p = jump_probability(step * scale, LAW, isotropic=True)
            error = (prediction[:, :-1] - test[:, 1:]).square().mean().sqrt()
            f1 = f1_score(edges[:, SKIP:].ravel(), p[:, SKIP:].ravel() > 0.5)
            print(
                f"  weight {weight:g}, seed {seed}: RMSE of the next pixel {error:.4f}, "
                f"mean P(jump) {p.mean():.2f}, F1 of P > 1/2 for edges {f1:.2f}"
            )
        curves[weight] = field - field.mean(1, keepdim=True), p
    draw(out, test, edges, curves)


def draw(out, test, edges, curves):
    row = len(test) // 2
    figure = Figure(figsize=(9, 6.5), dpi=130, layout="constrained")
    panels = figure.subplots(5, 1, sharex=True, height_ratios=(0.5, 2, 1, 2, 1))
    panels[0].imshow(test[row : row + 1], aspect="auto", extent=(0, test.shape[1], 0, 1))
    panels[0].set(title="a row of the photograph, read from left to right", yticks=[])
    for n, (weight, (field, p)) in enumerate(curves.items()):
        path, where = panels[1 + 2 * n : 3 + 2 * n]
        x = range(SKIP, test.shape[1])
        path.step(x, field[row, SKIP:], where="post", lw=0.8, alpha=0.7, color=COLORS[weight])
        path.set(title=f"state {'with' if weight else 'without'} the prior, all coordinates")
        where.bar(x[1:], edges[row, SKIP:], width=1, color="0.85", label="edge of the photograph")
        where.bar(x[1:], p[row, SKIP:], width=0.6, color=COLORS[weight])
        where.set(ylim=(0, 1.02), xlim=(0, test.shape[1]), ylabel="P(jump)")
    panels[2].legend(loc="upper left", fontsize=9, framealpha=1)
    panels[-1].set_xlabel("pixel")
    figure.savefig(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="sequence.png", help="path of the picture")
    parser.add_argument("--quick", action="store_true", help="only a few training steps")
    main(**vars(parser.parse_args()))
