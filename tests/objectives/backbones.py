"""Small ViTs of timm, transformers and torchvision with random weights, and their grids."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

SHAPE: dict[str, Any] = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
IMAGE = SHAPE | {"image_size": 32, "patch_size": 8}


@dataclass(frozen=True)
class Backbone:
    """A model, an input, and what its tokens must be.

    Args:
        model: The model.
        inputs: Images (B, 3, H, W) or clips (B, T, 3, H, W).
        grid: Grid of the patches.
        prefix: Number of tokens in front.
        blocks: Names of the blocks.
    """

    model: nn.Module
    inputs: Tensor
    grid: tuple[int, ...]
    prefix: int
    blocks: list[str]


def _timm(name: str = "vit_tiny_patch16_224", **options: Any) -> nn.Module:
    timm = pytest.importorskip("timm", reason="needs timm")
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 3, "num_heads": 4}
    return timm.create_model(name, num_classes=5, **(sizes | options))


def _transformers(kind: str, **settings: Any) -> nn.Module:
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    config = getattr(transformers, f"{kind}Config")(**settings)
    return getattr(transformers, f"{kind}Model")(config)


def _torchvision() -> nn.Module:
    vision = pytest.importorskip("torchvision.models", reason="needs torchvision")
    return vision.VisionTransformer(32, 8, 3, 4, 48, 96, num_classes=5)


IMAGES = (32, 32)
WIDE = (24, 40)  # another size than the model's
KINDS: dict[str, Any] = {
    "timm": (_timm, {}, IMAGES, (4, 4), 1, "blocks"),
    "timm, no class token": (
        _timm,
        {"class_token": False, "global_pool": "avg"},
        IMAGES,
        (4, 4),
        0,
        "blocks",
    ),
    "timm, registers": (_timm, {"reg_tokens": 4}, IMAGES, (4, 4), 5, "blocks"),
    "timm, any size": (_timm, {"dynamic_img_size": True}, WIDE, (3, 5), 1, "blocks"),
    "timm, eva": (
        _timm,
        {"name": "eva02_tiny_patch14_224", "num_heads": 3},
        IMAGES,
        (4, 4),
        1,
        "blocks",
    ),
    "torchvision": (_torchvision, {}, IMAGES, (4, 4), 1, "encoder.layers"),
    "ViT": (_transformers, {"kind": "ViT"} | IMAGE, IMAGES, (4, 4), 1, "layers"),
    "Dinov2": (_transformers, {"kind": "Dinov2"} | IMAGE, WIDE, (3, 5), 1, "encoder.layer"),
    "Dinov2WithRegisters": (
        _transformers,
        {"kind": "Dinov2WithRegisters", "num_register_tokens": 4} | IMAGE,
        WIDE,
        (3, 5),
        5,
        "encoder.layer",
    ),
    "DINOv3ViT": (
        _transformers,
        {"kind": "DINOv3ViT", "num_register_tokens": 4, "intermediate_size": 96} | IMAGE,
        WIDE,
        (3, 5),
        5,
        "model.layer",
    ),
    "IJepa": (_transformers, {"kind": "IJepa"} | IMAGE, IMAGES, (4, 4), 0, "layers"),
    "VideoMAE": (
        _transformers,
        {"kind": "VideoMAE", "num_frames": 6, "use_mean_pooling": False} | IMAGE,
        (6, 32, 32),
        (3, 4, 4),
        0,
        "encoder.layer",
    ),
    "VideoMAE, no norm": (
        _transformers,
        {"kind": "VideoMAE", "num_frames": 6} | IMAGE,
        (6, 32, 32),
        (3, 4, 4),
        0,
        "encoder.layer",
    ),
    "VJEPA2": (
        _transformers,
        {
            "kind": "VJEPA2",
            "crop_size": 32,
            "patch_size": 8,
            "frames_per_clip": 6,
            "mlp_ratio": 2,
            "pred_hidden_size": 48,
            "pred_num_attention_heads": 4,
            "pred_num_hidden_layers": 4,
        }
        | SHAPE,
        (6, 32, 32),
        (3, 4, 4),
        0,
        "encoder.layer",
    ),
}


def backbone(name: str, **more: Any) -> Backbone:
    """Build one of `KINDS`, the same one at every call."""
    build, options, size, grid, prefix, blocks = KINDS[name]
    torch.manual_seed(0)
    model = build(**(options | more))
    shape = (3, *size) if len(size) == 2 else (size[0], 3, *size[1:])
    inputs = torch.randn(2, *shape)
    names = dict(model.named_modules())
    depth = len(list(names[blocks].children()))
    found = [f"{blocks}.{child}" for child, _ in names[blocks].named_children()]
    assert depth == 3
    return Backbone(model, inputs, grid, prefix, found)


def output_of(result: Any) -> Tensor:
    """Return the tensor of a model's output."""
    return result if isinstance(result, Tensor) else result.last_hidden_state
