"""Which law do the tokens of an existing model follow? Any ViT of timm, on two photographs.

    python examples/diagnose.py                                    # random weights, offline
    python examples/diagnose.py --model vit_small_patch14_dinov2 --pretrained

Laws are fitted to increments of one photograph's tokens, of variance 1, by maximum likelihood, and
judged on the other's: by likelihood (more is better), and by the distance of characteristic
functions (less is). The Gaussian is Brownian motion, which never jumps.
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
from levyjepa.models import Encoder

LAWS = {
    "Gaussian": Brownian(1.0),
    "Gaussian jumps": Brownian(0.7) + CompoundPoisson(0.3, GaussianJumps(1.3)),
    "Laplace jumps": Brownian(0.7) + CompoundPoisson(0.5, LaplaceJumps(1.4)),
}
STYLES = dict(zip(LAWS, (("#d55e00", ":"), ("#009e73", "--"), ("#0072b2", "-")), strict=True))


def tokens(model: str, pretrained: bool, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Photographs (2, H, W, 3) in [0, 1], and their tokens (2, h, w, C), turned at random."""
    torch.manual_seed(0)
    encoder = Encoder(model, size, pooling="mean", pretrained=pretrained).eval()
    photos = torch.from_numpy(np.stack(load_sample_images().images)).movedim(-1, 1) / 255
    photos = nn.functional.interpolate(photos, size, mode="area")
    with torch.no_grad():
        field = encoder((photos - 0.45) / 0.226).field
        return photos.movedim(1, -1), field @ nn.init.orthogonal_(torch.empty(field.shape[-1:] * 2))


def main(out: str, quick: bool, model: str, pretrained: bool) -> None:
    photos, field = tokens(model, pretrained, (112, 168) if quick else (224, 336))
    steps = increments(field, box(2)).double()
    steps /= steps.square().mean((1, 2), keepdim=True).sqrt()
    known, new = (s.ravel()[torch.randperm(s.numel())[:20_000]] for s in steps)
    print(f"{model}, {'pretrained' if pretrained else 'random weights'}: {len(new)} increments")
    rule, fitted = equispaced(LAWS["Gaussian"], 64), {}
    for name, law in LAWS.items():
        found = fit(known, law)
        fitted[name] = found.law
        score = log_density(new, fitted[name]).mean().item()
        distance = statistic(new[None], fitted[name], 1.0, rule).item()
        values = ", ".join(f"{key} {value:.2f}" for key, value in found.parameters.items())
        print(f"  {name:14s} log-likelihood {score:.3f}, distance {distance:.1e}; {values}")
    excess = (new**4).mean() / (new**2).mean() ** 2 - 3
    print(f"  excess kurtosis {excess:.2f}; 0 for a Gaussian")
    p = jump_probability(steps[1], fitted["Laplace jumps"]).mean(-1)
    draw(out, photos[1], p.view(field.shape[1] - 1, field.shape[2] - 1), new, fitted)


def draw(out, photo, p, new, fitted):
    figure = Figure(figsize=(11, 3.6), dpi=130, layout="constrained")
    graph, left, right = figure.subplots(1, 3, width_ratios=(1.3, 1, 1))
    reach = float(new.abs().quantile(0.9995))
    x = torch.linspace(-reach, reach, 601, dtype=torch.float64)
    bins = reach * np.sinh(np.linspace(-4, 4, 62)) / np.sinh(4)  # narrow where the peak is
    graph.hist(new, bins, density=True, color="0.8", label="tokens")
    for name, law in fitted.items():
        colour, style = STYLES[name]
        graph.plot(x, log_density(x, law).exp().detach(), style, color=colour, label=name)
    graph.set(yscale="log", ylim=(1e-5, 10), xlabel="increment of a token", ylabel="density")
    graph.legend(fontsize=8, loc="lower center")
    height, width = photo.shape[:2]
    dy, dx = (side / (n + 1) / 2 for side, n in zip((height, width), p.shape, strict=True))
    left.imshow(photo)
    shown = right.imshow(
        p, cmap="inferno", vmin=0, vmax=1, extent=(dx, width - dx, height - dy, dy)
    )
    right.set_facecolor("0.6")
    for panel, title in ((left, "photograph"), (right, "P(jump), mean over channels")):
        panel.set(title=title, xticks=[], yticks=[], xlim=(0, width), ylim=(height, 0))
    figure.colorbar(shown, ax=right, shrink=0.7)
    figure.savefig(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="diagnose.png", help="where the picture goes")
    parser.add_argument("--quick", action="store_true", help="smaller photographs")
    parser.add_argument("--model", default="vit_small_patch8_224", help="a ViT of timm, by name")
    parser.add_argument("--pretrained", action="store_true", help="fetch timm's weights")
    main(**vars(parser.parse_args()))
