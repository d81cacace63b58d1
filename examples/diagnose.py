"""Compare laws for the token increments of an existing ViT, on two photographs.

    python examples/diagnose.py                                    # random weights, offline
    python examples/diagnose.py --model vit_small_patch14_dinov2 --pretrained

Increments of a photograph's tokens are scaled to variance 1. Laws are fitted to one photograph by
maximum likelihood and evaluated on the other one: by log-likelihood (higher is better) and by the
distance between characteristic functions (lower is better). "Gaussian" is Brownian motion, the law
without jumps.
"""

import argparse

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_sample_images
from torch import Tensor, nn

from levyjepa.ecf import equispaced, statistic
from levyjepa.inference import fit, jump_probability, log_density
from levyjepa.lattice import box, increments
from levyjepa.laws import Brownian, CompoundPoisson, GaussianJumps, LaplaceJumps
from levyjepa.models import ModelSettings, build_encoder

LAWS = {
    "Gaussian": Brownian(1.0),
    "Gaussian jumps": Brownian(0.7) + CompoundPoisson(0.3, GaussianJumps(1.3)),
    "Laplace jumps": Brownian(0.7) + CompoundPoisson(0.5, LaplaceJumps(1.4)),
}
STYLES = dict(zip(LAWS, (("#d55e00", ":"), ("#009e73", "--"), ("#0072b2", "-")), strict=True))


def tokens(model: str, pretrained: bool, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return photographs (2, H, W, 3) in [0, 1] and their randomly rotated tokens (2, h, w, C)."""
    torch.manual_seed(0)
    settings = ModelSettings.parse({"name": model, "pooling": "mean", "pretrained": pretrained})
    encoder = build_encoder(settings, size).eval()
    photos = torch.from_numpy(np.stack(load_sample_images().images)).movedim(-1, 1) / 255
    photos = nn.functional.interpolate(photos, size, mode="area")
    with torch.no_grad():
        field = encoder((photos - 0.45) / 0.226).tokens
        return photos.movedim(1, -1), field @ nn.init.orthogonal_(torch.empty(field.shape[-1:] * 2))


def main(out: str, quick: bool, model: str, pretrained: bool) -> None:
    photos, field = tokens(model, pretrained, (112, 168) if quick else (224, 336))
    steps = increments(field, box(2)).double()
    steps /= steps.square().mean((1, 2), keepdim=True).sqrt()
    train, test = (s.ravel()[torch.randperm(s.numel())[:20_000]] for s in steps)
    print(f"{model}, {'pretrained' if pretrained else 'random weights'}: {len(test)} increments")
    rule, fitted = equispaced(LAWS["Gaussian"], 64), {}
    for name, law in LAWS.items():
        result = fit(train, law)
        fitted[name] = result.law
        score = log_density(test, fitted[name]).mean().item()
        distance = statistic(test[None], fitted[name], 1.0, rule).item()
        values = ", ".join(f"{key} {value:.2f}" for key, value in result.parameters.items())
        print(f"  {name:14s} log-likelihood {score:.3f}, distance {distance:.1e}; {values}")
    excess = (test**4).mean() / (test**2).mean() ** 2 - 3
    print(f"  excess kurtosis {excess:.2f}; 0 for a Gaussian")
    p = jump_probability(steps[1], fitted["Laplace jumps"]).mean(-1)
    draw(out, photos[1], p.view(field.shape[1] - 1, field.shape[2] - 1), test, fitted)


def draw(out, photo, p, test, fitted):
    figure = Figure(figsize=(11, 3.6), dpi=130, layout="constrained")
    graph, left, right = figure.subplots(1, 3, width_ratios=(1.3, 1, 1))
    limit = float(test.abs().quantile(0.9995))
    x = torch.linspace(-limit, limit, 601, dtype=torch.float64)
    bins = limit * np.sinh(np.linspace(-4, 4, 62)) / np.sinh(4)  # narrow near the peak
    graph.hist(test, bins, density=True, color="0.8", label="tokens")
    for name, law in fitted.items():
        color, style = STYLES[name]
        graph.plot(x, log_density(x, law).exp().detach(), style, color=color, label=name)
    graph.set(yscale="log", ylim=(1e-5, 10), xlabel="increment of a token", ylabel="density")
    graph.legend(fontsize=8, loc="lower center")
    height, width = photo.shape[:2]
    dy, dx = (side / (n + 1) / 2 for side, n in zip((height, width), p.shape, strict=True))
    left.imshow(photo)
    heatmap = right.imshow(
        p, cmap="inferno", vmin=0, vmax=1, extent=(dx, width - dx, height - dy, dy)
    )
    right.set_facecolor("0.6")
    for panel, title in ((left, "photograph"), (right, "P(jump), mean over channels")):
        panel.set(title=title, xticks=[], yticks=[], xlim=(0, width), ylim=(height, 0))
    figure.colorbar(heatmap, ax=right, shrink=0.7)
    figure.savefig(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="diagnose.png", help="path of the picture")
    parser.add_argument("--quick", action="store_true", help="smaller photographs")
    parser.add_argument("--model", default="vit_small_patch8_224", help="name of a ViT in timm")
    parser.add_argument("--pretrained", action="store_true", help="download timm's weights")
    main(**vars(parser.parse_args()))
