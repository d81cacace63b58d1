"""Encoders that pool their tokens, and one of images applied to each frame of a clip."""

from typing import Any

from timm.layers.attention_pool import AttentionPoolLatent
from timm.layers.attention_pool2d import AttentionPool2d
from torch import Tensor, nn

from levyjepa.checks import floating
from levyjepa.models.encoder import Encoder, Encoding


class PooledEncoder(Encoder):
    """An encoder whose embedding is a linear map of pooled tokens; a subclass writes `read`."""

    def add_head(
        self, pooling: str, size: tuple[int, ...], embedding_dim: int | None, class_token: bool
    ) -> None:
        """Add what pools the tokens of an input of a size and maps them to the embedding.

        Without `embedding_dim` the pooled tokens are the embedding.
        """
        if pooling == "cls" and not class_token:
            raise ValueError("`pooling` must be attention or mean: there is no class token.")
        self.pooling, self.embedding_dim = pooling, embedding_dim or self.width
        width, grid = self.width, self.grid(size)
        heads = next(h for h in (6, *range(max(1, width // 64), 0, -1)) if width % h == 0)
        self.pool: Any = None
        if pooling == "attention" and len(grid) == 3:
            self.pool = AttentionPoolLatent(width, num_heads=heads, norm_layer=nn.LayerNorm)
        elif pooling == "attention":
            self.pool = AttentionPool2d(width, feat_size=(grid[0], grid[1]), num_heads=heads)
        self.embed = nn.Identity()
        if embedding_dim is not None:
            self.embed = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, embedding_dim))

    def forward(self, images: Tensor) -> Encoding:
        """Encode normalized images or clips, as `Encoder`, whose sizes the patch size divides."""
        clips = len(self.patch_size) == 3
        name, shape = ("clips", "(B, T, 3, H, W)") if clips else ("images", "(B, 3, H, W)")
        if floating(name, images, 4 + clips, shape).shape[-3] != 3:
            raise ValueError(f"`{name}` must be {shape}, got shape {tuple(images.shape)}.")
        prefix, tokens = self.read(images)
        pooled = prefix[:, 0] if self.pooling == "cls" else self.pooled(tokens)
        return Encoding(embedding=self.embed(pooled), tokens=tokens)

    def read(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the prefix tokens (B, p, C), a class token first, and patches (B, *grid, C)."""
        raise NotImplementedError

    def pooled(self, tokens: Tensor) -> Tensor:
        """Pool patch tokens (B, *grid, C) to (B, C), by attention or the mean."""
        if self.pool is None:
            return tokens.flatten(1, -2).mean(1)
        return self.pool(tokens.flatten(1, 3) if tokens.ndim == 5 else tokens.permute(0, 3, 1, 2))

    def per_frame(self, mixer_depth: int) -> Encoder:
        """Return an encoder of clips: itself if it is one, else itself applied to each frame."""
        return self if len(self.patch_size) == 3 else FrameEncoder(self, mixer_depth)


class FrameEncoder(Encoder):
    """Encode clips of any length by an image encoder applied to each frame.

    `TimeMixer` mixes the tokens of one place over the frames, `mixer_depth` times, and the frames'
    pooled tokens are averaged.
    """

    def __init__(self, image: PooledEncoder, mixer_depth: int = 1) -> None:
        super().__init__()
        if image.pooling == "cls":
            raise ValueError("`pooling` must be attention or mean for clips, got 'cls'.")
        self.image, self.width, self.embedding_dim = image, image.width, image.embedding_dim
        self.patch_size, self.prefix_tokens = (1, *image.patch_size), image.prefix_tokens
        self.mixer = nn.Sequential(*(TimeMixer(self.width) for _ in range(mixer_depth)))
        self.norm = nn.LayerNorm(self.width) if mixer_depth else nn.Identity()

    def forward(self, clips: Tensor) -> Encoding:
        """Encode normalized `clips` (B, T, 3, H, W), whose sides the patch size divides."""
        batch = floating("clips", clips, 5, "(B, T, 3, H, W)").shape[:2]
        tokens = self.image.read(clips.flatten(0, 1))[1].unflatten(0, batch)
        tokens = self.norm(self.mixer(tokens))
        pooled = self.image.pooled(tokens.flatten(0, 1)).unflatten(0, batch).mean(1)
        return Encoding(embedding=self.image.embed(pooled), tokens=tokens)


class TimeMixer(nn.Module):
    """x + MLP(conv(norm(x))), the convolution over three frames, for each channel and place apart.

    It knows no absolute time, so the tokens of a still clip stay the same.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.conv = nn.Conv1d(width, width, 3, padding=1, padding_mode="replicate", groups=width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Mix the frames of tokens (B, t, h, w, C)."""
        places = self.norm(tokens).permute(0, 2, 3, 4, 1).flatten(0, 2)  # (B h w, C, t)
        mixed = self.conv(places).unflatten(0, (tokens.shape[0], *tokens.shape[2:4]))
        return tokens + self.mlp(mixed.permute(0, 4, 1, 2, 3))
