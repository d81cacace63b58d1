"""A frozen encoder with its preprocessing: of a run, a file of weights, a folder or a name."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from levyjepa.data.loader import whole
from levyjepa.data.views import normalize
from levyjepa.lattice import Stencil
from levyjepa.laws import Law
from levyjepa.models.encoder import build_encoder, check_encoder
from levyjepa.models.network import Network
from levyjepa.models.registry import ENCODERS
from levyjepa.models.weights import CheckpointError, Origin, find_origin, is_run, read_file
from levyjepa.settings import ConfigError
from levyjepa.tasks.context import Subject, frozen
from levyjepa.training.config import change_data, compose, from_dict
from levyjepa.training.objective import build_objective, laws_of
from levyjepa.training.run_folder import RunFolder
from levyjepa.training.settings import Config

log = logging.getLogger(__name__)

Images = Any  # a picture, a path, an array (H, W, 3) or a tensor; one, several, or a batch


@dataclass(frozen=True)
class Trained:
    """A trained network in evaluation mode, with all that is needed to use it.

    >>> trained = load("runs/first")  # doctest: +SKIP
    >>> trained.embed(["a.jpg", "b.jpg"]).shape  # doctest: +SKIP
    torch.Size([2, 512])
    """

    network: Network
    config: Config
    classes: tuple[str, ...]
    mean: tuple[float, ...]  # of the training data's pixels in [0, 1], for each channel
    std: tuple[float, ...]
    laws: dict[str, tuple[Stencil, Law]]  # stencils with the laws of their increments, by name
    origin: Origin | None = None  # of a model other than a run

    @property
    def encoder(self) -> Any:
        """The encoder, from normalized images to an `Encoding`."""
        return self.network.encoder

    @property
    def law(self) -> Law:
        """The law of the first stencil."""
        return next(iter(self.laws.values()))[1]

    @property
    def subject(self) -> Subject:
        """What tasks evaluate."""
        return self.subject_of(self.network, "trained")

    def subject_of(self, network: Network, name: str) -> Subject:
        """What tasks evaluate of such a network; without a run no head, and tokens as the field."""
        head = None if self.origin else network.projection
        return Subject(name, network.encoder, head, network.patch_projection)

    def preprocess(self, images: Images) -> Tensor:
        """Resize, crop the center and normalize.

        Args:
            images: A PIL image, a path or a uint8 array (H, W, 3); a sequence of these; or a uint8
                tensor (B, 3, H, W). For an encoder of clips: a uint8 tensor (B, T, 3, H, W).

        Returns:
            (B, 3, s, s), or (B, T, 3, s, s), float32, at the size of training.

        Raises:
            ValueError: A file that is not an image, or another shape.
        """
        size = self.config.data.image_size
        if isinstance(images, Tensor):
            rank = 5 if self.config.clips else 4
            if images.dtype != torch.uint8 or images.ndim not in (rank, rank - 1):
                shape = "(B, T, 3, H, W)" if self.config.clips else "(B, 3, H, W)"
                raise ValueError(
                    f"`images` must be uint8 {shape}, got {images.dtype} {tuple(images.shape)}."
                )
            pixels = whole(images if images.ndim == rank else images[None], size)
        elif self.config.clips:
            raise ValueError("`images` must be a uint8 tensor (B, T, 3, H, W) for clips.")
        else:
            several = images if isinstance(images, (list, tuple)) else [images]
            pixels = torch.stack([whole(read_image(image), size) for image in several])
        return normalize(pixels, self.mean, self.std)

    def embed(self, images: Images) -> Tensor:
        """Return embeddings (B, E) of images, as `preprocess` takes or returns them."""
        return self._encode(images).embedding

    def tokens(self, images: Images) -> Tensor:
        """Return patch tokens (B, h, w, C), of clips (B, t, h, w, C)."""
        return self._encode(images).tokens

    def field(self, images: Images) -> Tensor:
        """Return the projected tokens that the prior sees, (B, h, w, P)."""
        with frozen(self.network):
            return self.network.patch_projection(self._encode(images).tokens)

    def _encode(self, images: Images) -> Any:
        ready = isinstance(images, Tensor) and images.is_floating_point()
        device = next(self.network.parameters()).device
        with frozen(self.network):
            return self.encoder((images if ready else self.preprocess(images)).to(device))


def load(
    model: str | Path,
    settings: Sequence[str] = (),
    *,
    pretrained: bool = False,
    encoder: Any = None,
) -> Trained:
    """Load a frozen encoder, of a run or anybody's.

    The embedding of a model other than a run is its class token if it pools by that, else the mean
    of its patch tokens. `Trained.origin` says where the weights are from and what was assumed.

    Args:
        model: A run folder, whose last checkpoint is taken, or a checkpoint; a file with a state
            dict of a ViT of timm, also within a model of lightly or another framework; a folder
            that `save_pretrained` of transformers wrote, or a hub id, "OWNER/MODEL"; a ViT of timm
            or a registered encoder by name.
        settings: Words as on the command line: of `data`; of a model other than a run also of
            `model`. Its image size is its own unless "data.image_size=N" is among them.
        pretrained: Fetch the weights of a ViT of timm; they are random otherwise.
        encoder: A module of the architecture that was trained, where `levyjepa.train` was called
            with one.

    Raises:
        CheckpointError: No such model, or weights that its settings do not fit.
        ConnectionError: Weights that can't be fetched.
        ImportError: transformers is needed and not installed.
    """
    file = run_file(model)
    if file is None:
        return _load_other(str(model), settings, pretrained)
    content = read_checkpoint(file)
    values = content["hyper_parameters"]
    config = from_dict(values["config"])
    network_settings = config.model.model_copy(update={"pretrained": False, "weights": None})
    if encoder is None:
        encoder = build_encoder(network_settings, config.data.image_size, config.data.frames)
    prior = config.objective.gamma > 0
    network = Network(encoder, network_settings, len(values["classes"]), prior)
    objective = build_objective(config)
    parts: dict[str, Any] = {"network.": network}
    if config.objective.learnable:
        parts["objective."] = objective
    try:
        for stem, module in parts.items():
            weights = {k: v for k, v in content["state_dict"].items() if k.startswith(stem)}
            module.load_state_dict({k.removeprefix(stem): v for k, v in weights.items()})
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{file} holds weights of another architecture than its settings say; a module that "
            f"was passed to `train` must be passed to `load`: {reason}"
        ) from error
    return Trained(
        network.eval(),
        change_data(config, settings),
        tuple(values["classes"]),
        tuple(values["mean"]),
        tuple(values["std"]),
        laws_of(objective, config),
    )


def _load_other(model: str, settings: Sequence[str], pretrained: bool) -> Trained:
    """Load a model other than a run."""
    for key in (word.partition("=")[0] for word in settings):
        if key == "model" or key.split(".")[0] not in ("data", "model", "seed", "run_dir"):
            raise ConfigError(f"`{key}` has no effect on a model other than a run.")
    words = [f"model.weights={model}", "model.patch_projection=none", "objective.gamma=0"]
    if model not in ENCODERS.names():
        words += ["model.pooling=own", "model.embedding_dim=null", "model.drop_path=0"]
    config = compose([*words, *settings])
    origin = find_origin(config.model, pretrained)
    data, own = config.data, origin.settings
    if not any(word.startswith("data.image_size=") for word in settings):
        data = data.replace(image_size=origin.image_size)
    if config.clips:
        own = own.replace(mixer_depth=0)  # would be random
    config = config.model_copy(update={"data": data, "model": own})
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        network = Network(build_encoder(own, data.image_size, data.frames), own, 0, prior=False)
    check_encoder(network.encoder, data.image_size, data.frames)
    pooling = getattr(network.encoder, "pooling", "")
    how = {"cls": "the class token", "mean": "the mean of patch tokens"}.get(pooling, "its own")
    used = f"Images are {data.image_size} pixels wide; the embedding is {how}."
    origin = replace(origin, text=f"{origin.text} {used}")
    log.info(origin.text)
    laws = laws_of(build_objective(config), config)
    network.eval().requires_grad_(False)
    return Trained(network, config, (), origin.mean, origin.std, laws, origin)


def start_of(config: Config) -> tuple[Config, Origin | None]:
    """Return the settings of a run with the architecture of the weights that it starts from.

    Returns:
        The settings, and where the weights come from; None where they are random.
    """
    model = config.model
    text = model.weights or (model.name if model.pretrained else None)
    if text is None:
        return config, None
    if text in ENCODERS.names():
        values = {"name": text, "weights": None, "pretrained": True}
        return config.model_copy(update={"model": model.model_copy(update=values)}), None
    origin = find_origin(model.model_copy(update={"weights": str(run_file(text) or text)}))
    return config.model_copy(update={"model": origin.settings}), origin


def run_file(model: str | Path) -> Path | None:
    """Return the last checkpoint of a run folder, or a checkpoint of a run; None for other models.

    Raises:
        CheckpointError: There is no such model.
    """
    path, text = Path(model), str(model)
    last = RunFolder(path).last_checkpoint
    if last.is_file():
        return last
    if path.is_file():
        return path if is_run(read_file(path)) else None
    got = text
    if path.is_dir():
        if (path / "config.json").is_file():
            return None
        got += f", which has neither {last.relative_to(path)} nor config.json"
    elif text in ENCODERS.names() or timm.is_model(text):
        return None
    elif re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", text) and not path.parent.is_dir():
        return None  # a hub id
    elif path.suffix or "/" in text:
        got += ", which does not exist"
    else:
        near = get_close_matches(text, [*ENCODERS.names(), *timm.list_models()], n=3)
        got += f"; near it: {', '.join(near)}" * bool(near)
    raise CheckpointError(
        "`model` must be a run folder or a checkpoint, a file with a state dict of a ViT of timm, "
        "a folder or hub id (OWNER/MODEL) of transformers, or a ViT of timm or a registered "
        f"encoder by name, got {got}."
    )


def model_name(model: str | Path) -> str:
    """Return the last part of what a model is loaded by, of a file without its ending."""
    path = Path(model)
    return path.stem if path.is_file() else path.name


def require_data(model: str | Path, words: Sequence[str]) -> None:
    """Raise ConfigError where words name no data; a model other than a run has none of its own."""
    if not {"data", "data.source"} & {word.partition("=")[0] for word in words}:
        raise ConfigError(
            f"`data` must be given, as {model} is not a run with data of its own: "
            "data=cifar10 data.path=FOLDER."
        )


def device_of(accelerator: str = "auto") -> str:
    """Return "cuda" where Lightning's accelerator of this name uses a GPU here, else "cpu"."""
    gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return "cuda" if gpu else "cpu"


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without executing anything in it.

    Raises:
        CheckpointError: It is none of a run.
    """
    content = read_file(path)
    if not is_run(content):
        raise CheckpointError(f"{path} is not a checkpoint of a levyjepa run.")
    return content


def read_image(image: Any) -> Tensor:
    """Return the pixels of a PIL image, a path or an array as (3, H, W) uint8.

    Raises:
        ValueError: It is not an image.
    """
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim not in (2, 3):
            raise ValueError(f"`image` must be uint8 (H, W, 3), got {image.dtype} {image.shape}.")
        image = Image.fromarray(image)
    if not isinstance(image, Image.Image):
        path = Path(image)
        try:
            image = ImageOps.exif_transpose(Image.open(path))
        except FileNotFoundError:
            raise ValueError(f"`image` must be a file, got {path}, which does not exist.") from None
        except (UnidentifiedImageError, OSError, SyntaxError) as error:
            raise ValueError(f"`image` must be an image, got {path}: {error}.") from error
    return pil_to_tensor(image.convert("RGB"))


def read_whole_patches(image: Any, trained: Trained) -> Tensor:
    """Return an image as (3, H, W) uint8, of whole patches, its short side that of training."""
    pixels = read_image(image)
    patch = tuple(trained.encoder.patch_size)[-2:]
    scale = trained.config.data.image_size / min(pixels.shape[1:])
    height, width = (
        max(1, round(length * scale / step)) * step
        for length, step in zip(pixels.shape[1:], patch, strict=True)
    )
    picture = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    return pil_to_tensor(ImageOps.fit(picture, (width, height), Image.Resampling.BICUBIC))


def require_images(trained: Trained) -> Trained:
    """Return the network itself; raise CheckpointError where it takes clips."""
    if trained.config.clips:
        raise CheckpointError(
            f"This command takes networks of images, got one of clips of "
            f"{trained.config.data.frames} frames."
        )
    return trained


__all__ = [
    "CheckpointError",
    "Trained",
    "load",
    "model_name",
    "read_checkpoint",
    "read_image",
    "read_whole_patches",
    "require_data",
    "require_images",
    "run_file",
    "start_of",
]
