"""Weights from anywhere: by name, in a folder or in a file, and the images they were made for."""

import math
import pickle
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from levyjepa.models.pretrained import HALF, read_config, read_statistics
from levyjepa.models.settings import ModelSettings
from levyjepa.settings import flat

MARK = "patch_embed.proj.weight"  # the key of a ViT's patches in timm, and in all that builds on it
PLAIN = {192: "tiny", 384: "small", 1024: "large"}  # what timm calls a ViT, by width; else base
OWN = "network.encoder."  # what keys of an encoder begin with in a checkpoint of a run
HEADS = re.compile(r"(head|fc\.|mask_token|pre_logits|attn_pool|proj|decoder|predictor)")
OTHER_HEADS = {1280: 16, 1408: 16, 1664: 16}  # by width: models of timm whose heads aren't 64 wide


class Pixels(NamedTuple):
    """Mean and std of pixels in [0, 1], for each channel, and whose they are."""

    mean: Sequence[float]
    std: Sequence[float]
    whose: str


class CheckpointError(ValueError):
    """A file that holds no weights that can be read, or weights of another architecture."""


@dataclass(frozen=True)
class Origin:
    """Where an encoder comes from, and the images that it was made for."""

    settings: ModelSettings  # its whole architecture
    image_size: int  # pixels
    mean: tuple[float, ...]  # of pixels in [0, 1], for each channel
    std: tuple[float, ...]
    text: str  # what was found, and what was assumed
    random: bool = False  # whether the weights are random


def find_origin(settings: ModelSettings, pretrained: bool = True) -> Origin:
    """Complete the settings of an encoder by what `weights` names.

    A file says width, depth, patch size, positions and tokens by its shapes, unless `name` is set:
    then that ViT of timm is the architecture.

    Args:
        settings: `weights` is a file with a state dict; a folder of transformers or a hub id,
            OWNER/MODEL; or a ViT of timm or a registered encoder by name.
        pretrained: Fetch timm's weights; they are random otherwise.

    Raises:
        CheckpointError: A file without the weights of a ViT.
        ValueError: A setting that contradicts the weights.
    """
    text = str(settings.weights)
    if Path(text).is_file():
        return _of_file(settings, text)
    if "name" in settings.model_fields_set and settings.name != text:
        raise ValueError(f"`model.name` must be left out or {text!r}, got {settings.name!r}.")
    size, pixels = _of_name(text)
    if external := is_external(text):
        config = read_config(text)
        size = getattr(getattr(config, "vision_config", config), "image_size", size)
        found = read_statistics(text)
        pixels = Pixels(*found, "its own") if found else Pixels(HALF, HALF, "0.5 (assumed)")
    random = not (external or pretrained)
    settings = settings.replace(name=text, weights=None, pretrained=not random)
    what = "random weights; --pretrained fetches timm's" if random else "pretrained weights"
    return _origin(settings, size if isinstance(size, int) else max(size), pixels, what, random)


def is_external(name: str) -> bool:
    """Whether a model's name is a folder of transformers or a hub id, "OWNER/MODEL"."""
    return Path(name).is_dir() or "/" in name


def read_file(path: str | Path) -> dict[str, Any]:
    """Read a file of weights without executing anything in it.

    Raises:
        CheckpointError: It can't be read so.
    """
    try:
        if Path(path).suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path} is not a checkpoint that PyTorch can read safely: it is damaged, or holds "
            "more than tensors, numbers and text."
        ) from error
    except SafetensorError as error:
        raise CheckpointError(f"{path} is not a file of safetensors: {error}.") from error
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise CheckpointError(f"{path} is not a checkpoint: it must hold a dict, got {kind}.")
    return content


def load_weights(encoder: Any, image: Any, path: str) -> None:
    """Load a run's checkpoint into an encoder, or any other file into the ViT of its image encoder.

    Raises:
        CheckpointError: Keys or shapes that don't match.
    """
    content = read_file(path)
    if is_run(content):
        state = {k: v for k, v in content["state_dict"].items() if k.startswith(OWN)}
        _load(encoder, {k.removeprefix(OWN): v for k, v in state.items()}, path)
        return
    vit = getattr(image, "vit", None)
    if vit is None:
        raise CheckpointError(f"{path} is a state dict, and `model.name` is no ViT of timm.")
    state, _ = _vit(content, path)
    own, got = (tuple(values[MARK].shape) for values in (vit.state_dict(), state))
    if own != got:
        raise CheckpointError(
            f"{path} holds {_patches(got)}, and the settings of `model` say {_patches(own)}."
        )
    # timm's own reader of the family: it resizes positions and knows the names of first releases
    convert = getattr(sys.modules[type(vit).__module__], "checkpoint_filter_fn", None)
    if convert is not None:
        with suppress(Exception):  # of another architecture, which is then said more clearly
            state = convert(dict(state), vit)
    _load(vit, {key: value for key, value in state.items() if not HEADS.match(key)}, path)


def is_run(content: Mapping[str, Any]) -> bool:
    """Whether the content of a file is a checkpoint of a run of this package."""
    values = content.get("hyper_parameters")
    known = {"config", "classes", "mean", "std"}
    return isinstance(values, dict) and known <= values.keys() and "state_dict" in content


def _of_file(settings: ModelSettings, path: str) -> Origin:
    content, given = read_file(path), settings.model_fields_set
    if is_run(content):
        values, own = content["hyper_parameters"], content["hyper_parameters"]["config"]
        keys = ("name", "patch_size", "overrides", "pooling", "embedding_dim", "mixer_depth")
        known = {key: own["model"][key] for key in keys if key in own["model"]}
        known = {key: value for key, value in known.items() if key not in given}
        pixels = Pixels(values["mean"], values["std"], "the run's")
        size = own["data"]["image_size"]
        return _origin(settings.replace(**known), size, pixels, "the encoder of a run")
    state, under = _vit(content, path)
    grid, classless = _positions(state)
    if "name" in given:
        size, pixels = _of_name(settings.name)
        size, what = grid * state[MARK].shape[-1] or size, settings.name
    else:
        if "pos_embed" in state and not grid:
            raise CheckpointError(
                f"{path} holds {state['pos_embed'].shape[1]} positions, which are no square of "
                "patches; `model.name` must say which ViT of timm it is."
            )
        shape = _architecture(state, classless) | settings.overrides
        patch = state[MARK].shape[-1]
        size, width, heads = grid * patch or 224, shape["embed_dim"], f"{shape['num_heads']} heads"
        heads += " (assumed)" * ("num_heads" not in settings.overrides)
        what = (
            f"a ViT of width {width}, depth {shape['depth']} and {heads} on {patch}-pixel patches "
            f"of {size}-pixel images"
        )
        patch = settings.patch_size or patch
        name = f"vit_{PLAIN.get(width, 'base')}_patch16_224"
        settings = settings.replace(name=name, overrides=shape, patch_size=patch)
        pixels = Pixels(IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, "ImageNet's (assumed)")
    return _origin(settings, size, pixels, what + under)


def _of_name(name: str) -> tuple[Any, Pixels]:
    """The image size and statistics that timm knows of a name."""
    known = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    if known is None:
        return 224, Pixels(HALF, HALF, "0.5 (assumed)")
    return known.input_size[-1], Pixels(known.mean, known.std, "timm's of that name")


def _origin(
    settings: ModelSettings, size: int, pixels: Pixels, what: str, random: bool = False
) -> Origin:
    mean, std, whose = pixels
    name = settings.weights or settings.name
    numbers, deviations = (", ".join(f"{v:.3g}" for v in values) for values in (mean, std))
    text = f"{name}: {what}. Mean {numbers} and std {deviations} of pixels are {whose}."
    return Origin(settings, size, tuple(mean), tuple(std), text, random)


def _vit(content: Mapping[str, Any], path: str) -> tuple[dict[str, Tensor], str]:
    """The tensors of a ViT with timm's keys, a teacher's first, and where they stood."""
    tensors = {key: value for key, value in flat(content).items() if isinstance(value, Tensor)}
    patches = [k for k, v in tensors.items() if f".{k}".endswith(f".{MARK}") and v.ndim == 4]
    found = [key.removesuffix(MARK) for key in patches]
    if not found:
        stems = ", ".join(list(dict.fromkeys(key.split(".")[0] for key in tensors))[:5])
        raise CheckpointError(
            f"{path} is not a checkpoint of a levyjepa run, and among its {len(tensors)} tensors "
            f"none is called {MARK}, as in a ViT of timm; they begin with {stems or 'nothing'}. "
            "Of a model of transformers, give the folder that save_pretrained wrote."
        )
    best = min(found, key=lambda stem: not {"teacher", "ema"} & set(re.split(r"[._]", stem)))
    inside = {k.removeprefix(best): v for k, v in tensors.items() if k.startswith(best)}
    others = ", ".join(map(repr, found[: found.index(best)] + found[found.index(best) + 1 :]))
    return inside, f", under {best!r}" * bool(best) + f" (also there: {others})" * bool(others)


def _architecture(state: Mapping[str, Tensor], classless: bool) -> dict[str, Any]:
    """Arguments of a ViT of timm, by the shapes of its weights."""
    width, registers = state[MARK].shape[0], _registers(state)
    numbers = [int(found[1]) for key in state if (found := re.match(r"blocks\.(\d+)\.", key))]
    block = {re.sub(r"^blocks\.\d+\.", "", key): value for key, value in state.items()}
    mean = "cls_token" not in state or "fc_norm.weight" in state
    shape: dict[str, Any] = {
        "embed_dim": width,
        "depth": max(numbers, default=-1) + 1,
        "num_heads": OTHER_HEADS.get(width, max(1, width // 64)),
    }
    if (inner := block.get("mlp.fc1.weight")) is not None:
        shape["mlp_ratio"] = len(inner) / width
    if (norm := block.get("attn.q_norm.weight")) is not None:
        shape |= {"qk_norm": True, "num_heads": width // len(norm)}
    others = {  # what differs from timm's default
        "qkv_bias": (False, "attn.qkv.bias" not in block),
        "class_token": (False, "cls_token" not in state),
        "reg_tokens": (registers, registers > 0),
        "no_embed_class": (True, classless),
        "pos_embed": ("none", "pos_embed" not in state),
        "init_values": (1e-5, "ls1.gamma" in block),
        "pre_norm": (True, "norm_pre.weight" in state),
        "global_pool": ("avg", mean),
        "fc_norm": ("fc_norm.weight" in state, mean),
    }
    return shape | {key: value for key, (value, differs) in others.items() if differs}


def _registers(state: Mapping[str, Tensor]) -> int:
    """How many there are, by timm's name or that of the first release of DINOv2."""
    return sum(state[k].shape[1] for k in ("reg_token", "register_tokens") if k in state)


def _positions(state: Mapping[str, Tensor]) -> tuple[int, bool]:
    """Patches along a side, 0 if unknown, and whether other tokens have no positions."""
    if "pos_embed" not in state:
        return 0, False
    tokens, prefix = state["pos_embed"].shape[1], _registers(state) + ("cls_token" in state)
    if "register_tokens" in state:  # beside which the class token has a position
        return math.isqrt(tokens - 1), True
    for patches, classless in ((tokens - prefix, False), (tokens, prefix > 0)):
        if patches > 0 and math.isqrt(patches) ** 2 == patches:
            return math.isqrt(patches), classless
    return 0, False


def _load(module: nn.Module, state: Mapping[str, Tensor], path: str) -> None:
    """Load a state dict whose keys and shapes all match."""
    own = module.state_dict()
    shapes = [k for k in own if k in state and own[k].shape != state[k].shape]
    faults = {
        "lacks": [key for key in own if key not in state],
        "also has": [key for key in state if key not in own],
        "has other shapes of": [
            f"{k} {(*state[k].shape,)}, not {(*own[k].shape,)}" for k in shapes
        ],
    }
    if any(faults.values()):
        some = [
            f"{what} {len(keys)}: {', '.join(keys[:3])}{', …' * (len(keys) > 3)}"
            for what, keys in faults.items()
            if keys
        ]
        matched = len(own) - len(faults["lacks"]) - len(shapes)
        raise CheckpointError(
            f"{path} holds weights of another architecture: {matched} of {len(own)} match; it "
            f"{'; it '.join(some)}. `model.name` and `model.overrides` say which it is."
        )
    module.load_state_dict(state)


def _patches(shape: tuple[int, ...]) -> str:
    return f"patches of {shape[2]} x {shape[3]} pixels in {shape[0]} channels"
