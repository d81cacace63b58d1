"""What no type says: ranges, names, and settings that must fit each other."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from levyjepa import lattice, laws
from levyjepa.checks import count, not_negative, positive
from levyjepa.conf.schema import Config, DataConfig, ModelConfig, TermConfig
from levyjepa.objectives.video import KINDS

SOURCES = (
    "mnist5k",
    "cifar10",
    "imagenette",
    "hub",
    "parquet",
    "folder",
    "unlabelled",
    "segmentation",
    "moving_digits",
    "videofolder",
    "davis",
)
OF_CLIPS = ("moving_digits", "videofolder")
OF_BOTH = ("hub", "davis")  # of clips where data.frames says so
CLIPS_INSTEAD = {"views=lejepa": "views=clips", "views=multicrop": "views=clips"}
IMAGES_INSTEAD = {
    "views=clips": "views=lejepa",
    "model=video_tiny": "model=tiny",
    "model=video_small": "model=vit_s8",
}
VIDEO_MODELS = ("videomae", "vjepa2")
PROBABILITIES = ("flip", "jitter", "gray", "blur", "solarize")
STRENGTHS = ("brightness", "contrast", "saturation", "hue", "rotation")


class ConfigError(ValueError):
    """A setting that can't be; the message names its key."""


def check(config: Config) -> None:
    """Raise ConfigError, naming the key, unless every setting can be."""
    data, views, model = config.data, config.views, config.model
    objective, optimizer, trainer = config.objective, config.optimizer, config.trainer
    try:
        _one_of("data.source", data.source, SOURCES)
        _least("data", data, 1, "image_size", "batch_size")
        _least("data", data, 0, "workers")
        _clips(config)
        if not 0 <= data.holdout < 1:
            raise ValueError(f"`data.holdout` must be from 0 to below 1, got {data.holdout}.")
        if data.limit is not None:
            _least("data", data, 1, "limit")
        for key in PROBABILITIES:
            _share(f"views.{key}", getattr(views, key))
        for key in STRENGTHS:
            not_negative(f"views.{key}", getattr(views, key))
        if views.hue > 0.5:
            raise ValueError(f"`views.hue` must be at most 0.5, got {views.hue}.")
        if count("views.blur_kernel", views.blur_kernel) % 2 == 0:
            raise ValueError(f"`views.blur_kernel` must be odd, got {views.blur_kernel}.")
        if not views.groups:
            raise ValueError("`views.groups` must hold a group, got none.")
        for i, group in enumerate(views.groups):
            _least(f"views.groups[{i}]", group, 1, "count")
            low, high = group.scale
            if not 0 < low <= high <= 1:
                raise ValueError(
                    f"`views.groups[{i}].scale` must rise within (0, 1], got {tuple(group.scale)}."
                )
        _one_of("model.pooling", model.pooling, ("attention", "cls", "mean"))
        _one_of("model.patch_projection", model.patch_projection, ("mlp", "linear", "none"))
        widths = ("embedding_dim", "projection_hidden", "projection_dim")
        _least("model", model, 1, *widths, "patch_projection_hidden", "patch_projection_dim")
        _share("model.drop_path", model.drop_path)
        _one_of("objective.prior", objective.prior, ("levy", "total_variation"))
        not_negative("objective.gamma", objective.gamma)
        not_negative("objective.kappa", objective.kappa)
        _share("objective.lamb", objective.lamb)
        _least("objective", objective, 1, "nodes", "num_directions")
        _least("objective", objective, 2, "knots")
        _one_of("objective.cells", objective.cells, ("overlapping", "one", "every"))
        _one_of("objective.quadrature", objective.quadrature, ("equispaced", "gauss_laguerre"))
        _read("objective.law", objective.law, _law)
        for kind in KINDS:
            term = getattr(objective, kind)
            not_negative(f"objective.{kind}.weight", term.weight)
            if term.law is not None:
                _read(f"objective.{kind}.law", term.law, _law)
        for i, text in enumerate(objective.stencils):
            stencil = _read(f"objective.stencils[{i}]", text, lattice.parse)
            if stencil.ndim != 2:
                raise ValueError(f"`objective.stencils[{i}]` must be of 2 dimensions, got {text}.")
        positive("optimizer.lr", optimizer.lr)
        positive("optimizer.probe_lr", optimizer.probe_lr)
        for key in ("weight_decay", "probe_weight_decay", "warmup_epochs"):
            not_negative(f"optimizer.{key}", getattr(optimizer, key))
        _least("trainer", trainer, 1, "max_epochs", "devices", "num_nodes")
        if trainer.max_steps != -1:
            _least("trainer", trainer, 1, "max_steps")
        if trainer.gradient_clip is not None:
            positive("trainer.gradient_clip", trainer.gradient_clip)
        _least("", config, 0, "seed")
        _grids(config)
    except (ValueError, TypeError) as error:
        raise ConfigError(str(error)) from error


def check_presets(chosen: Mapping[str, str], source: str, frames: int | None) -> None:
    """Raise ConfigError where a preset is of images and the data is of clips, or the reverse.

    Args:
        chosen: Presets by group, as {"views": "lejepa"}.
        source: `data.source`.
        frames: `data.frames`.
    """
    clips = source in OF_CLIPS or (source in OF_BOTH and frames is not None)
    kinds = ("images", "clips") if clips else ("clips", "images")
    for wrong, right in (CLIPS_INSTEAD if clips else IMAGES_INSTEAD).items():
        group, _, name = wrong.partition("=")
        if chosen.get(group) == name:
            raise ConfigError(
                f"`{wrong}` is of {kinds[0]}, and data.source={source} gives {kinds[1]}; "
                f"write {right}."
            )


def _clips(config: Config) -> None:
    """Frames go with sources of clips, and windows of frames fit a clip."""
    data, groups = config.data, config.views.groups
    clips = data.frames is not None
    if data.source not in OF_BOTH and clips != (data.source in OF_CLIPS):
        wanted = "null" if clips else "a number of frames"
        raise ValueError(
            f"`data.frames` must be {wanted} for data.source={data.source}, got {data.frames}."
        )
    _least("data", data, 1, "stride")
    if data.rate is not None:
        positive("data.rate", data.rate)
        if not clips:
            raise ValueError(f"`data.rate` is of clips, which data.source={data.source} has not.")
    least, most = data.digits
    count("data.digits", least)
    count("data.digits", most, least)
    if data.source != "moving_digits" and tuple(data.digits) != DataConfig().digits:
        raise ValueError(f"`data.digits` is of moving_digits, not of data.source={data.source}.")
    if clips:
        count("data.frames", data.frames, 2)
    else:
        for key, value, plain in (
            ("data.stride", data.stride, 1),
            ("objective.pace", config.objective.pace, 1),
            ("model.mixer_depth", config.model.mixer_depth, 1),
            *((f"objective.{k}", getattr(config.objective, k), TermConfig()) for k in KINDS),
        ):
            if value != plain:
                raise ValueError(f"`{key}` is of clips, which data.source={data.source} has not.")
        if config.model.name in VIDEO_MODELS:
            raise ValueError(
                f"`model.name={config.model.name}` is of clips, which data.source={data.source} "
                "has not."
            )
    for i, group in enumerate(groups):
        if group.frames is not None and not 2 <= group.frames <= (data.frames or 0):
            raise ValueError(
                f"`views.groups[{i}].frames` must be of clips, from 2 to data.frames="
                f"{data.frames}, got {group.frames}."
            )
    positive("objective.pace", config.objective.pace)
    if clips and not any(getattr(config.objective, kind).weight for kind in KINDS):
        raise ValueError("`objective` must give space, time or spacetime a weight, got none.")


def _grids(config: Config) -> None:
    """Every size is whole patches, and with a prior every grid holds the stencils."""
    patch = _patch_size(config.model)
    stencils = [lattice.parse(text) for text in config.objective.stencils]
    spans = [
        max(max(axis) - min(axis) + 1 for axis in zip(*s.offsets, strict=True)) for s in stencils
    ]
    need = max(spans, default=0) if config.objective.gamma else 0
    sizes = {"data.image_size": config.data.image_size}
    sizes |= {
        f"views.groups[{i}].size": g.size for i, g in enumerate(config.views.groups) if g.size
    }
    for key, size in sizes.items():
        count(key, size)
        if patch is None:
            continue
        if size % patch:
            raise ValueError(f"`{key}` must be a multiple of the patch size {patch}, got {size}.")
        if size // patch < need:
            raise ValueError(
                f"`{key}` must give a grid of at least {need} x {need} patches for the stencils, "
                f"got {size // patch} x {size // patch}."
            )


def _patch_size(model: ModelConfig) -> int | None:
    """The patch size, as far as settings tell; the encoder itself knows the rest."""
    if model.patch_size is not None:
        return count("model.patch_size", model.patch_size)
    found = re.search(r"patch(\d+)", model.name)
    return int(found[1]) if found else None


def _read(key: str, text: str, parse: Callable[[str], Any]) -> Any:
    try:
        return parse(text)
    except (ValueError, TypeError) as error:
        raise ValueError(f"`{key}`: {error}") from error


def _law(text: str) -> laws.Law:
    law = laws.parse(text)
    if not isinstance(law, laws.Law):
        raise ValueError(f"must be one law for all channels, got {text}.")
    return law


def _least(stem: str, settings: Any, least: int, *names: str) -> None:
    for name in names:
        count(f"{stem}.{name}".lstrip("."), getattr(settings, name), least)


def _share(key: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"`{key}` must be between 0 and 1, got {value}.")


def _one_of(key: str, value: str, names: tuple[str, ...]) -> None:
    if value not in names:
        raise ValueError(f"`{key}` must be one of {', '.join(names)}, got {value!r}.")
