"""What an encoder is: from images or clips to tokens on a grid and an embedding."""

import inspect
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from levyjepa.checks import count
from levyjepa.models.registry import ENCODERS
from levyjepa.models.settings import ModelSettings
from levyjepa.models.weights import is_external, load_weights

Size = int | Sequence[int]
PROTOCOL = ("width", "embedding_dim", "patch_size", "prefix_tokens", "fixed_size", "grid")


@dataclass(frozen=True)
class Encoding:
    """One embedding for each image or clip, one token for each patch."""

    embedding: Tensor  # (B, E)
    tokens: Tensor  # (B, h, w, C), of clips (B, t, h, w, C)


class Encoder(nn.Module):
    """Base class of encoders. A subclass sets the attributes and writes `forward`.

    Attributes:
        width: C, of a token.
        embedding_dim: E, of the embedding.
        patch_size: Pixels (h, w) of a patch; of clips (frames, h, w).
        prefix_tokens: Tokens of the model inside that belong to no patch, such as a class token;
            they come first there and are not among `Encoding.tokens`.
        fixed_size: The only (h, w), or of clips (frames, h, w), that it takes; None for any.
        depth: Blocks whose output `layers` gives.

    >>> class Patches(Encoder):
    ...     width, embedding_dim, patch_size = 192, 192, (8, 8)
    ...     def forward(self, images):
    ...         tokens = nn.functional.pixel_unshuffle(images, 8).movedim(1, -1)
    ...         return Encoding(tokens.mean((1, 2)), tokens)
    >>> check_encoder(Patches(), image_size=32).grid((32, 32))
    (4, 4)
    """

    width: int
    embedding_dim: int
    patch_size: tuple[int, ...]
    prefix_tokens: int = 0
    fixed_size: tuple[int, ...] | None = None
    depth: int = 1

    def forward(self, images: Tensor) -> Encoding:
        """Encode normalized images (B, 3, H, W) or clips (B, T, 3, H, W)."""
        raise NotImplementedError

    def layers(self, images: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """Return tokens (B, *grid, C) after each of some blocks, for diagnosis.

        Args:
            images: As for `forward`.
            layers: From 1 to `depth`; the last gives `Encoding.tokens`.
        """
        return [self(images).tokens] * len(layers)

    def grid(self, size: Sequence[int]) -> tuple[int, ...]:
        """Return the number of tokens along each axis of an input of (h, w) or (frames, h, w).

        Raises:
            ValueError: The patch size does not divide it.
        """
        patch = self.patch_size
        if len(size) != len(patch) or any(n % p for n, p in zip(size, patch, strict=True)):
            what = "`frames` and `image_size`" if len(patch) == 3 else "`image_size`"
            raise ValueError(
                f"{what} must be a multiple of the patch size {patch}, got {tuple(size)}."
            )
        return tuple(n // p for n, p in zip(size, patch, strict=True))


def build_encoder(settings: ModelSettings, image_size: Size, frames: int | None = None) -> Any:
    """Build the encoder that settings name, and load the file `weights` if they name one.

    A registered encoder, else a folder or hub id of transformers, else a ViT of timm.

    Args:
        settings: The name and its arguments.
        image_size: Pixels, one number or (H, W).
        frames: Of a clip; None for images.

    Raises:
        ValueError: No such encoder, arguments or sizes that it does not take.
        CheckpointError: A file of weights that do not match.
    """
    name, arguments = settings.name, {"embedding_dim": settings.embedding_dim, **settings.overrides}
    known = ENCODERS.entries()
    if name not in known:
        arguments["name"] = name
        name = "transformers" if is_external(name) else "timm"
    build = known[name].build
    signature = inspect.signature(build)
    for key in ("patch_size", "pooling", "drop_path", "pretrained", "mixer_depth"):
        value = getattr(settings, key)
        if key == "pooling" and value == "own" and frames is not None:
            value = "mean"  # frames have no class token together
        if key in signature.parameters:
            arguments.setdefault(key, value)
        elif key in ("patch_size", "pretrained") and value:
            raise ValueError(f"The encoder {name!r} does not take `model.{key}`, got {value}.")
    try:
        signature.bind(image_size, frames, **arguments)
    except TypeError as error:
        raise ValueError(f"`model.overrides` do not fit the encoder {name!r}: {error}.") from error
    encoder = build(image_size, frames, **arguments)
    image = encoder
    if frames is not None and hasattr(encoder, "per_frame"):
        encoder = encoder.per_frame(settings.mixer_depth)
    if settings.weights:
        load_weights(encoder, image, settings.weights)
    encoder.built_from = settings, image_size, frames  # for `Network.untrained`
    return encoder


def check_encoder(encoder: Any, image_size: Size, frames: int | None = None) -> Any:
    """Return an encoder after a dry run on zeros; the arguments are those of `build_encoder`.

    Raises:
        TypeError: It is no module, or gives something else than an `Encoding`.
        ValueError: It lacks an attribute of `Encoder`, can't encode the size, or gives other
            shapes than its attributes imply.
    """
    name = type(encoder).__name__
    if not isinstance(encoder, nn.Module):
        raise TypeError(f"`encoder` must be a torch.nn.Module, got {name}.")
    if lacking := ", ".join(f"`{key}`" for key in PROTOCOL if not hasattr(encoder, key)):
        raise ValueError(f"The encoder {name} lacks {lacking}; see levyjepa.models.Encoder.")
    own: Any = encoder
    sides = pair(image_size)
    clip = () if frames is None else (count("frames", frames),)
    size, shape = (*clip, *sides), (1, *clip, 3, *sides)
    if len(own.patch_size) != len(size):
        axes = "(frames, h, w) of clips" if clip else "(h, w) of images"
        raise ValueError(f"`patch_size` of {name} must be {axes}, got {own.patch_size}.")
    if own.fixed_size is not None and tuple(own.fixed_size) != size:
        raise ValueError(f"The encoder {name} takes only {tuple(own.fixed_size)}, got {size}.")
    wanted = {"embedding": (1, own.embedding_dim), "tokens": (1, *own.grid(size), own.width)}
    like = next(own.parameters(), torch.zeros(()))
    try:
        with torch.no_grad():
            encoding = deepcopy(own).eval()(like.new_zeros(shape))
    except Exception as error:  # whatever a stranger's module raises
        raise ValueError(
            f"The encoder {name} fails on zeros of shape {shape}: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(encoding, Encoding):
        got = type(encoding).__name__
        raise TypeError(f"The encoder {name} must return an Encoding, got {got}.")
    for part, expected in wanted.items():
        if (got := tuple(getattr(encoding, part).shape)) != expected:
            raise ValueError(
                f"`{part}` of the encoder {name} must have shape {expected} for input of shape "
                f"{shape}, as `width`, `embedding_dim` and `patch_size` imply, got {got}."
            )
    return encoder


def pair(size: Size) -> tuple[int, int]:
    """Return (H, W) of one number or two."""
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2:
        raise ValueError(f"`image_size` must be one number or (H, W), got {size!r}.")
    return count("image_size", sides[0]), count("image_size", sides[1])
