"""A model's name and settings to a diagnosis, and a diagnosis to its files."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from levyjepa.data.source import open_source
from levyjepa.diagnose import STENCILS, Diagnosis, diagnose, read_fields, sample_images
from levyjepa.lattice import parse_stencils
from levyjepa.models.frozen import load_frozen
from levyjepa.report.page import Section, write_page
from levyjepa.settings import ConfigError
from levyjepa.training.config import change_data, compose
from levyjepa.training.loading import device_of, load, require_images
from levyjepa.training.run_folder import RunFolder


def diagnose_model(
    model: str,
    words: Sequence[str] = (),
    *,
    layers: Sequence[int] | None = None,
    pretrained: bool = False,
    stencils: str | None = None,
    number: int = 64,
    progress: Callable[[str], None] = lambda stage: None,
) -> tuple[Diagnosis, Path]:
    """Diagnose the patch tokens of any ViT on a seeded sample of images.

    Args:
        model: A run folder or a checkpoint, a ViT of timm by name, or a folder or hub id of
            transformers.
        words: Settings of `data`, and `seed` and `run_dir`. The image size is the model's own
            unless `data.image_size` is set.
        layers: Blocks after which tokens are read; None for four.
        pretrained: Fetch timm's weights; they are random otherwise.
        stencils: Text, such as "box(2), diamond()"; None for the usual four.
        number: Of images.
        progress: Called with what begins.

    Returns:
        The diagnosis and the folder for its files, which does not exist yet.

    Raises:
        ValueError: An unknown model, layer or setting, or too few images.
    """
    for key in (word.partition("=")[0] for word in words):
        if key.split(".")[0] != "data" and key not in ("seed", "run_dir"):
            raise ConfigError(f"`{key}` has no effect here; only data, seed and run_dir do.")
    config = compose(words)
    folder = Path(config.run_dir or f"runs/diagnosis-{Path(model).stem}")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`run_dir` must be a folder, got {folder}.")
    chosen = STENCILS if stencils is None else parse_stencils(stencils)
    if RunFolder(model).exists or Path(model).is_file() or model.endswith(".ckpt"):
        trained = require_images(load(model))
        data = change_data(trained.config, [w for w in words if w.startswith("data")]).data
        encoder, mean, std = trained.encoder, trained.mean, trained.std
        projection, random, size = trained.network.patch_projection, False, data.image_size
    else:
        own = any(word.startswith("data.image_size=") for word in words)
        frozen = load_frozen(
            model, pretrained, config.data.image_size if own else None, config.seed
        )
        data, encoder, mean, std = config.data, frozen.encoder, frozen.mean, frozen.std
        projection, random, size = None, frozen.random, frozen.image_size
    source = open_source(data)
    images = sample_images(source, size, number, config.seed)
    fields = read_fields(encoder, images, mean, std, layers, device_of(), projection)
    result = diagnose(
        fields,
        chosen,
        config.seed,
        progress,
        images=images,
        model=model,
        data=source.name,
        random=random,
    )
    return result, folder


def write_diagnosis(diagnosis: Diagnosis, folder: Path) -> Path:
    """Write `diagnosis.json`, `diagnosis.csv` and the page into a folder; return the page."""
    files = RunFolder(folder)
    text = json.dumps(diagnosis.as_dict(), indent=1, default=str)
    files.write_text(folder / "diagnosis.json", text)
    files.write_text(folder / "diagnosis.csv", diagnosis.numbers.to_csv())
    details = [
        Section(part.title, part.text, part.table, folded=True) for part in diagnosis.details
    ]
    sections = [
        Section("Layer by layer", "\n\n".join(diagnosis.notes), diagnosis.table),
        Section("Pictures", pictures=diagnosis.pictures),
        *details,
    ]
    title = f"Which law do the tokens of {os.path.basename(diagnosis.model)} follow?"
    return write_page(folder / "diagnosis.html", title, diagnosis.verdict, sections)
