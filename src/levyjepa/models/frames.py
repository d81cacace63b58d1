"""Image encoders that pool their tokens, and one of them applied to each frame of a clip."""

from timm.layers.attention_pool2d import AttentionPool2d
from torch import Tensor, nn

from levyjepa.checks import count, floating
from levyjepa.models.encoder import Encoder, Encoding

POOLINGS = ("attention", "cls", "mean")


class PooledEncoder(Encoder):
    """An image encoder whose embedding is a linear map of pooled tokens.

    A subclass sets the attributes of `Encoder`, calls `add_head` and writes `read`.
    """

    def add_head(self, pooling: str, grid: tuple[int, int], embedding_dim: int) -> None:
        """Add what pools tokens and maps them to the embedding.

        Args:
            pooling: "attention" over patch tokens, "cls" token, or "mean" of patch tokens.
            grid: (h, w) of the tokens; others may follow.
            embedding_dim: E.

        Raises:
            ValueError: An unknown pooling, or "cls" without a token that could be the class token.
        """
        check_pooling(pooling, POOLINGS)
        if pooling == "cls" and self.prefix_tokens == 0:
            raise ValueError("`pooling` must be attention or mean: there is no class token.")
        self.pooling, self.embedding_dim = pooling, embedding_dim
        heads = attention_heads(self.width)
        self.pool = (
            AttentionPool2d(self.width, feat_size=grid, num_heads=heads)
            if pooling == "attention"
            else None
        )
        self.embed = embedding_head(self.width, embedding_dim)

    def forward(self, images: Tensor) -> Encoding:
        """Encode normalized `images` (B, 3, H, W), whose sides the patch size divides."""
        floating("images", images, 4, "(B, 3, H, W)")
        prefix, tokens = self.read(images)
        pooled = prefix[:, 0] if self.pooling == "cls" else self.pooled(tokens)
        return Encoding(embedding=self.embed(pooled), tokens=tokens)

    def read(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the prefix tokens (B, p, C), the class token first, and patches (B, h, w, C)."""
        raise NotImplementedError

    def pooled(self, tokens: Tensor) -> Tensor:
        """Pool patch tokens (B, h, w, C) to (B, C), by attention or the mean."""
        return tokens.mean((1, 2)) if self.pool is None else self.pool(tokens.permute(0, 3, 1, 2))

    def per_frame(self, mixer_depth: int) -> "FrameEncoder":
        """Return an encoder of clips that applies this one to each frame."""
        return FrameEncoder(self, mixer_depth)


class FrameEncoder(Encoder):
    """Encode clips by an image encoder applied to each frame.

    `TimeMixer` mixes the tokens of one place over the frames, and the frames' pooled tokens are
    averaged. It takes clips of any length, of one frame too.

    Args:
        image: Encodes a frame.
        mixer_depth: Blocks of the mixer; each sees one frame further on either side.

    Raises:
        ValueError: The image encoder pools by a class token.
    """

    def __init__(self, image: PooledEncoder, mixer_depth: int = 1) -> None:
        super().__init__()
        if image.pooling == "cls":
            raise ValueError("`pooling` must be attention or mean for clips, got 'cls'.")
        self.image = image
        self.width, self.embedding_dim = image.width, image.embedding_dim
        self.patch_size, self.prefix_tokens = (1, *image.patch_size), image.prefix_tokens
        depth = count("mixer_depth", mixer_depth, least=0)
        self.mixer = nn.Sequential(*(TimeMixer(self.width) for _ in range(depth)))
        self.norm = nn.LayerNorm(self.width) if depth else nn.Identity()

    def forward(self, clips: Tensor) -> Encoding:
        """Encode normalized `clips` (B, T, 3, H, W), whose sides the patch size divides."""
        floating("clips", clips, 5, "(B, T, 3, H, W)")
        batch = clips.shape[:2]
        tokens = self.image.read(clips.flatten(0, 1))[1].unflatten(0, batch)
        tokens = self.norm(self.mixer(tokens))
        pooled = self.image.pooled(tokens.flatten(0, 1)).unflatten(0, batch).mean(1)
        return Encoding(embedding=self.image.embed(pooled), tokens=tokens)


class TimeMixer(nn.Module):
    """x + MLP(conv(norm(x))), the convolution over three frames, for each channel and place apart.

    It knows no absolute time, so the tokens of a still clip stay the same.

    Args:
        width: C.
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


def check_pooling(pooling: str, allowed: tuple[str, ...]) -> None:
    """Raise a ValueError unless `pooling` is one of those allowed."""
    if pooling not in allowed:
        raise ValueError(f"`pooling` must be one of {', '.join(allowed)}, got {pooling!r}.")


def attention_heads(width: int) -> int:
    """Return how many heads pool tokens of a width: 6 if they divide it, else of 64 or wider."""
    return next(h for h in (6, *range(max(1, width // 64), 0, -1)) if width % h == 0)


def embedding_head(width: int, embedding_dim: int) -> nn.Sequential:
    """Return the map from pooled tokens to the embedding."""
    dim = count("embedding_dim", embedding_dim)
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, dim))
