"""A trained encoder with its preprocessing, from a run folder or a checkpoint."""

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from levyjepa.data.loader import whole
from levyjepa.data.views import normalize
from levyjepa.lattice import Stencil
from levyjepa.laws import Law
from levyjepa.models.encoder import build_encoder
from levyjepa.models.network import Network
from levyjepa.tasks.context import Subject, frozen
from levyjepa.training.config import from_dict
from levyjepa.training.objective import build_objective, laws_of
from levyjepa.training.run_folder import RunFolder
from levyjepa.training.settings import Config

Images = Any  # a picture, a path, an array (H, W, 3) or a tensor; one, several, or a batch


class CheckpointError(ValueError):
    """A file that is no checkpoint of a run, or does not fit its own settings."""


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
        network = self.network
        return Subject("trained", network.encoder, network.projection, network.patch_projection)

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


def load(path: str | Path, encoder: Any = None) -> Trained:
    """Load a trained encoder.

    Args:
        path: A run folder, whose last checkpoint is taken, or a checkpoint.
        encoder: A module of the architecture that was trained, where `levyjepa.train` was called
            with one.

    Raises:
        CheckpointError: No checkpoint of a run, or weights that its settings do not fit.
    """
    file = checkpoint_file(path)
    content = read_checkpoint(file)
    values = content["hyper_parameters"]
    config = from_dict(values["config"])
    model = config.model.model_copy(update={"pretrained": False})
    if encoder is None:
        encoder = build_encoder(model, config.data.image_size, config.data.frames)
    network = Network(encoder, model, len(values["classes"]), config.objective.gamma > 0)
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
        config,
        tuple(values["classes"]),
        tuple(values["mean"]),
        tuple(values["std"]),
        laws_of(objective, config),
    )


def checkpoint_file(path: str | Path) -> Path:
    """Return the last checkpoint of a run folder, or a file as it is.

    Raises:
        CheckpointError: Neither is there.
    """
    path = Path(path)
    last = RunFolder(path).last_checkpoint
    if path.is_file() or last.is_file():
        return path if path.is_file() else last
    got = (
        f"{path}, which has no {last.relative_to(path)}"
        if path.is_dir()
        else f"{path}, which does not exist"
    )
    raise CheckpointError(f"`path` must be a run folder or a checkpoint, got {got}.")


def device_of(accelerator: str = "auto") -> str:
    """Return "cuda" where Lightning's accelerator of this name uses a GPU here, else "cpu"."""
    gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return "cuda" if gpu else "cpu"


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without executing anything in it.

    Raises:
        CheckpointError: It is none of a run.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path} is not a checkpoint that PyTorch can read safely."
        ) from error
    values = content.get("hyper_parameters", {}) if isinstance(content, dict) else {}
    if not {"config", "classes", "mean", "std"} <= values.keys() or "state_dict" not in content:
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
    "checkpoint_file",
    "load",
    "read_checkpoint",
    "read_image",
    "read_whole_patches",
    "require_images",
]
