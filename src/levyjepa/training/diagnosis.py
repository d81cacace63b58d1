"""From a model's name and overrides to what its tokens say."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset

from levyjepa import lattice
from levyjepa.conf.compose import amend, compose
from levyjepa.conf.schema import DataConfig
from levyjepa.data import load_source, test_loader
from levyjepa.evaluation.diagnose import (
    LEAST,
    SHOWN,
    STENCILS,
    Finding,
    diagnose,
    read_fields,
)
from levyjepa.evaluation.evaluate import subset
from levyjepa.models.backbone import as_backbone, load_backbone
from levyjepa.training.checkpoint import load

IMAGES = 64
OWN = ("model.pretrained", "objective.stencils", "run_dir", "seed")


@dataclass(frozen=True)
class Diagnosis:
    """Findings, and what they were found in."""

    model: str
    data: str
    images: int
    image_size: int
    seed: int
    folder: Path  # where the run belongs
    findings: list[Finding]
    shown: np.ndarray  # (M, H, W, 3) of uint8, the images of the jump maps
    random: bool = False  # weights that nothing has trained


def diagnose_model(
    model: str,
    overrides: Sequence[str] = (),
    progress: Callable[[str], None] = lambda _: None,
) -> Diagnosis:
    """Diagnose the patch tokens of any ViT over a seeded sample of images.

    Test images, filled up by training images where they are fewer than asked for.

    Args:
        model: A checkpoint or run folder of ours, a ViT of timm by name, a folder of
            transformers or a hub id.
        overrides: `data...` (64 images, or `data.limit`; at the model's own size unless
            `data.image_size` is given), `seed`, `run_dir`, `objective.stencils`,
            `pretrained=true` for timm's weights, and `layers=4,8,12`, see `read_fields`.
        progress: Told what comes next.

    Raises:
        ValueError: As `load_backbone`, `read_fields` and `diagnose`, or another override.
    """
    layers = _layers([o for o in overrides if o.startswith("layers=")])
    lines = [o for o in overrides if not o.startswith("layers=")]
    lines = [f"model.{o}" if o.startswith("pretrained=") else o for o in lines]
    keys = [line.partition("=")[0] for line in lines]
    for key in keys:
        if key.split(".")[0] != "data" and key not in OWN:
            allowed = ", ".join(("data", "layers", "pretrained", *OWN))
            raise ValueError(f"`{key}` has no part in a diagnosis; only {allowed} may be set.")
    config = compose(lines)
    folder = Path(config.run_dir or f"runs/diagnosis-{Path(model).stem}")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`run_dir` must be a folder, got {folder}.")
    stencils = STENCILS
    if "objective.stencils" in keys:
        stencils = [lattice.parse(text) for text in config.objective.stencils]

    checkpoint = _checkpoint(Path(model))
    if checkpoint:
        trained = load(checkpoint).of_images()
        own = [line for line, key in zip(lines, keys, strict=True) if key.split(".")[0] == "data"]
        data = amend(trained.config, own).data
        backbone = as_backbone(trained.network, model, trained.mean, trained.std)
        random = False
    else:
        asked = config.data.image_size if "data.image_size" in keys else None
        backbone = load_backbone(model, config.model.pretrained, asked, config.seed)
        data = replace(config.data, image_size=backbone.image_size)
        random = not config.model.pretrained and timm.is_model(model)
    name, images = _images(data, config.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    fields = read_fields(backbone, images, layers, device)
    return Diagnosis(
        model=backbone.name,
        data=name,
        images=len(images),
        image_size=images.shape[-1],
        seed=config.seed,
        folder=folder,
        findings=diagnose(fields, stencils, config.seed, progress),
        shown=images[:SHOWN].movedim(1, -1).numpy(),
        random=random,
    )


def _layers(given: Sequence[str]) -> list[int] | None:
    if not given:
        return None
    text = given[-1].removeprefix("layers=").strip("[]")
    try:
        return [int(layer) for layer in text.split(",")]
    except ValueError:
        raise ValueError(f"`layers` must be numbers, as layers=4,8,12, got {text!r}.") from None


def _checkpoint(path: Path) -> Path | None:
    if (path / "config.yaml").is_file():
        return path / "checkpoints" / "last.ckpt"
    return path if path.is_file() or path.suffix == ".ckpt" else None


def _images(config: DataConfig, seed: int) -> tuple[str, Tensor]:
    """Test images, filled up by training images where they are few: (N, 3, s, s) of uint8."""
    source = load_source(replace(config, limit=None))
    wanted: Any = config.limit or IMAGES
    tests: Any = subset(source.test, wanted, seed) if source.test else []
    rest = [subset(source.train, wanted - len(tests), seed)] if len(tests) < wanted else []
    batches = list(test_loader(ConcatDataset([tests, *rest]), config))
    images = torch.cat([batch.images for batch in batches])
    if len(images) < LEAST:
        bad = sum(len(batch.corrupt) for batch in batches)
        raise ValueError(
            f"At least {LEAST} images are needed, got {len(images)} of {source.name}"
            + (f"; {bad} can't be decoded." if bad else ".")
        )
    return source.name, images
