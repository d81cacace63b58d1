"""What the three units of the prior do to tokens: docs/scales.png and the tables of docs/loop.md.

    python benchmarks/scales.py FOLDER --runs runs/scales

FOLDER holds Imagenette as parquet. The first run trains four small ViTs, about four minutes each on
one core; later ones use what is there.
"""

import argparse
import warnings
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

import levyjepa
from levyjepa import box

TEXT = "Brownian(0.25) + CompoundPoisson(0.3, LaplaceJumps(1.0))"
LAW = levyjepa.parse_law(TEXT)
SCALES = ("fixed", "tokens", "free")
SETTINGS = [
    "data=parquet",
    "data.image_size=64",
    "data.limit=3000",
    "data.batch_size=64",
    "data.workers=0",
    "model.name=vit_tiny_patch16_224",
    "model.patch_size=8",
    "model.embedding_dim=128",
    "model.drop_path=0.0",
    "model.projection_hidden=256",
    "model.overrides={embed_dim: 96, depth: 4, num_heads: 3}",
    "views.groups=[{count: 2, scale: [0.2,1.0]}]",
    "views.blur=0",
    "views.solarize=0",
    "views.jitter=0.5",
    "optimizer.lr=2e-3",
    "trainer.max_epochs=5",
    "trainer.progress=false",
    "trainer.evaluate=false",
]


def descend(scale: str, deviation: float, steps: int = 300) -> tuple[Tensor, list[float]]:
    """Return a free field after descent from white noise, and its losses."""
    term = levyjepa.LevyRegularizer(LAW, (box(2),), scale=scale)
    generator = torch.Generator().manual_seed(0)
    field = torch.nn.Parameter(deviation * torch.randn(2, 24, 24, 8, generator=generator))
    optimizer = torch.optim.Adam([field], lr=0.03 * deviation)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = term(field, generator=generator)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return field.detach(), losses


def correlation(field: Tensor) -> float:
    """Return the mean correlation of neighbors, after every channel's mean is taken out."""
    x = field.double()
    x = (x - x.mean((0, 1, 2))) / x.std((0, 1, 2))
    return float(((x[:, 1:] * x[:, :-1]).mean() + (x[:, :, 1:] * x[:, :, :-1]).mean()) / 2)


def offset(field: Tensor) -> float:
    """Return the share of the tokens' variance that lies between images: a common offset."""
    x = field.double() - field.double().mean((0, 1, 2))
    return float(x.mean((1, 2)).square().sum(-1).mean() / x.square().sum(-1).mean())


def colors(tokens: Tensor) -> np.ndarray:
    """Return three principal components of tokens (h, w, C) as colors."""
    flat = tokens.flatten(0, 1) - tokens.flatten(0, 1).mean(0)
    parts = flat @ torch.pca_lowrank(flat, 3, center=False)[2]
    low, high = parts.quantile(0.02, 0), parts.quantile(0.98, 0)
    return ((parts - low) / (high - low)).clamp(0, 1).view(*tokens.shape[:2], 3).numpy()


def masked(unbiased: bool) -> tuple[float, float]:
    """Return the loss of the law and of white noise with a quarter of the tokens kept."""
    law = levyjepa.parse_law("Brownian(0.125) + CompoundPoisson(2, LaplaceJumps(1))")
    generator = torch.Generator().manual_seed(0)
    term = levyjepa.LevyRegularizer(law, (box(2),), unbiased=unbiased)
    mask = torch.rand(2000, 14, 14, generator=generator) < 0.25
    sheets = levyjepa.sample_sheet(law, box(2), (14, 14), 16, 2000, generator)
    noise = torch.randn(2000, 14, 14, 16, generator=generator)
    turn = torch.eye(16)
    return term(sheets, turn, mask=mask).item(), term(noise, turn, mask=mask).item()


def train(folder: str, runs: Path) -> dict[str, Any]:
    """Return the encoders of the baseline and of the three scales."""
    cases = {"no prior": ["objective.gamma=0"]}
    prior = ["model.patch_projection=none", f"objective.law={TEXT}"]
    cases |= {f"scale={scale!r}": [f"objective.scale={scale}", *prior] for scale in SCALES}
    encoders = {}
    for name, words in cases.items():
        path = runs / name.replace("scale=", "").strip("'").replace(" ", "-")
        words = [*SETTINGS, *words, f"data.path={folder}", f"run_dir={path}"]
        encoders[name] = levyjepa.train(words).encoder
    return encoders


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--runs", type=Path, default=Path("runs/scales"))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    import datasets

    test = datasets.Dataset.from_parquet(f"{options.folder}/test.parquet")
    photographs = [test[index]["image"].convert("RGB") for index in range(0, 3900, 60)]  # pyright: ignore
    figure, axes = plt.subplots(4, 5, figsize=(10, 8.6), constrained_layout=True)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])

    sheet = levyjepa.sample_sheet(LAW, box(2), (24, 24), 8, 2, torch.Generator().manual_seed(1))
    start = 10 * torch.randn(24, 24, generator=torch.Generator().manual_seed(0))
    fields = {"10 x white noise": start, "a sheet of the law": sheet[0, ..., 0]}
    print("| a free field from 10 x white noise | first loss | last loss |\n|---|---|---|")
    for scale in SCALES:
        field, losses = descend(scale, 10.0)
        fields[f"scale={scale!r}"] = field[0, ..., 0]
        print(f"| {scale} | {losses[0]:.4f} | {losses[-1]:.4f} |")
    for axis, (title, field) in zip(axes[0], fields.items(), strict=True):
        axis.imshow(field, cmap="gray")
        axis.set_title(title, fontsize=9)
    axes[0, 0].set_ylabel("a free field\nafter 300 steps", fontsize=9)

    encoders = train(options.folder, options.runs)
    print("\n| prior | neighbors correlate by | variance between images |\n|---|---|---|")
    for column, (name, encoder) in enumerate(encoders.items(), 1):
        tokens = encoder.tokens(photographs)
        print(f"| {name} | {correlation(tokens):.2f} | {offset(tokens):.2f} |")
        for row, index in enumerate((3, 20), 1):
            axes[row, 0].imshow(photographs[index].resize((160, 160)))
            axes[row, column].imshow(colors(tokens[index]), interpolation="nearest")
        axes[1, column].set_title(name, fontsize=9)
    axes[1, 0].set_ylabel("tokens of a small ViT,\nthree components as colors", fontsize=9)

    for column, unbiased in enumerate((False, True)):
        law, noise = masked(unbiased)
        title = "without the noise floor" if unbiased else "with the noise floor"
        axes[3, 2 * column].bar(
            ["the law", "white noise"], [law, noise], color=["#2a6f97", "#c1666b"]
        )
        axes[3, 2 * column].set_title(title, fontsize=9)
        axes[3, 2 * column].set(xticks=[0, 1], xticklabels=["the law", "white noise"])
        axes[3, 2 * column].tick_params(labelsize=8)
        axes[3, 2 * column].axhline(0, color="black", lw=0.5)
        print(f"\n{title}, a quarter of the tokens kept: law {law:.3f}, white noise {noise:.3f}")
    notes = {
        1: "With the floor, a loss\nprefers noise to the law.",
        3: "Without it, the law\nscores 0 on average.",
    }
    for column in (1, 3, 4):
        axes[3, column].axis("off")
        axes[3, column].text(0.02, 0.5, notes.get(column, ""), fontsize=9, va="center")
    axes[3, 0].set_ylabel("loss, a quarter\nof the tokens kept", fontsize=9)
    figure.savefig(Path(__file__).parents[1] / "docs" / "scales.png", dpi=110)


if __name__ == "__main__":
    main()
