"""A model's name and settings to a diagnosis, and a diagnosis to its files."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from levyjepa.data.source import open_source
from levyjepa.diagnose import STENCILS, Diagnosis, diagnose, read_fields, sample_images
from levyjepa.lattice import parse_stencils
from levyjepa.report.page import Section, write_page
from levyjepa.training.loading import device_of, load, model_name, require_images
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
        model: As of `levyjepa.load`.
        words: Settings as of `levyjepa.load`, and `seed` and `run_dir`.
        layers: Blocks after which tokens are read; None for four.
        pretrained: As of `levyjepa.load`.
        stencils: Text, such as "box(2), diamond()"; None for the usual four.
        number: Of images.
        progress: Called with what begins.

    Returns:
        The diagnosis and the folder for its files, which does not exist yet.

    Raises:
        ValueError: An unknown model, layer or setting, or too few images.
    """
    trained = require_images(load(model, words, pretrained=pretrained))
    config, origin = trained.config, trained.origin
    folder = Path(config.run_dir or f"runs/diagnosis-{model_name(model)}")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"`run_dir` must be a folder, got {folder}.")
    chosen = STENCILS if stencils is None else parse_stencils(stencils)
    source = open_source(config.data)
    images = sample_images(source, config.data.image_size, number, config.seed)
    projection = None if origin else trained.network.patch_projection
    statistics = trained.mean, trained.std
    fields = read_fields(trained.encoder, images, *statistics, layers, device_of(), projection)
    result = diagnose(
        fields,
        chosen,
        config.seed,
        progress,
        images=images,
        model=model,
        data=source.name,
        random=origin is not None and origin.random,
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
