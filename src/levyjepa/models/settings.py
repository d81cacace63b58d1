"""Settings of the encoder and its heads."""

from typing import Annotated, Any, Literal

from pydantic import Field

from levyjepa.settings import Settings


class ModelSettings(Settings):
    """The encoder and its heads; `model=NAME` picks a preset."""

    name: str = Field(
        default="vit_small_patch8_224",
        description="A ViT of timm, a registered encoder, or a folder or hub id of transformers.",
    )
    mixer_depth: int = Field(
        default=1,
        ge=0,
        description="Blocks that mix the frames of a clip, after an image ViT; video only.",
    )
    weights: str | None = Field(
        default=None,
        description="Start from these: a run, a checkpoint, a file with a state dict of a ViT of "
        "timm, a folder or hub id of transformers, or a published ViT of timm by name.",
    )
    patch_size: int | None = Field(default=None, ge=1, description="Pixels; null: the model's own.")
    pooling: Literal["attention", "cls", "mean", "own"] = Field(
        default="attention",
        description="From tokens to the embedding: attention, cls, mean; own: cls where the model "
        "itself pools by its class token, else mean.",
    )
    embedding_dim: Annotated[int, Field(ge=1)] | None = Field(
        default=512, description="Width of the embedding; null: the pooled tokens themselves."
    )
    drop_path: float = Field(default=0.1, ge=0, le=1, description="Rate of stochastic depth.")
    pretrained: bool = Field(default=False, description="Start from published weights.")
    overrides: dict[str, Any] = Field(default={}, description="Further arguments of the encoder.")
    projection_hidden: int = Field(
        default=2048, ge=1, description="Hidden width of the projection."
    )
    projection_dim: int = Field(default=16, ge=1, description="Width of the projection.")
    patch_projection: Literal["mlp", "linear", "none"] = Field(
        default="mlp", description="What the prior sees of the tokens: mlp, linear, none."
    )
    patch_projection_hidden: int = Field(default=2048, ge=1, description="Its hidden width.")
    patch_projection_dim: int = Field(default=16, ge=1, description="Its width.")
