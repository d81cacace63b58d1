"""An image ViT applied to each frame of a clip, and a light mixer of the frames."""

from typing import Any

from torch import Tensor, nn

from levyjepa.checks import count, floating
from levyjepa.models.encoder import Encoder, Encoding


class FrameEncoder(nn.Module):
    """Encode clips as a field of tokens in space and time and an embedding.

    A ViT gives the tokens of each frame, `TimeMixer` mixes those of one place, and the frames'
    pooled tokens are averaged. Clips of any length are taken, of one frame too.

    Args:
        name: Any ViT of timm, such as "vit_small_patch8_224".
        image_size: Pixels, one number or (H, W).
        patch_size: Pixels; None takes the name's own.
        pooling: Of a frame: "attention" over its tokens, or their "mean".
        embedding_dim: E, the width of the embedding.
        drop_path: Stochastic depth's rate in the last block.
        pretrained: Start from timm's weights.
        mixer_depth: Blocks of the mixer; each sees one frame further on either side.
        overrides: Further arguments of timm's model.

    Raises:
        ValueError: As `Encoder`, or "cls" for a pooling.
    """

    def __init__(
        self,
        name: str = "vit_small_patch8_224",
        image_size: int | tuple[int, int] = 128,
        patch_size: int | None = None,
        pooling: str = "attention",
        embedding_dim: int = 512,
        drop_path: float = 0.1,
        pretrained: bool = False,
        mixer_depth: int = 1,
        **overrides: Any,
    ) -> None:
        super().__init__()
        if pooling == "cls":
            raise ValueError("`pooling` must be attention or mean for clips, got 'cls'.")
        self.image = Encoder(
            name,
            image_size,
            patch_size,
            pooling,
            embedding_dim,
            drop_path,
            pretrained,
            **overrides,
        )
        self.width, self.embedding_dim = self.image.width, self.image.embedding_dim
        depth = count("mixer_depth", mixer_depth, least=0)
        self.mixer = nn.Sequential(*(TimeMixer(self.width) for _ in range(depth)))
        self.norm = nn.LayerNorm(self.width) if depth else nn.Identity()

    def forward(self, clips: Tensor) -> Encoding:
        """Encode normalised `clips` (B, T, 3, H, W), whose sides the patch size divides."""
        floating("clips", clips, 5, "(B, T, 3, H, W)")
        several = clips.shape[:2]
        tokens = self.image.read(clips.flatten(0, 1))[1].unflatten(0, several)
        field = self.norm(self.mixer(tokens))
        pooled = self.image.pooled(field.flatten(0, 1)).unflatten(0, several).mean(1)
        return Encoding(embedding=self.image.embed(pooled), field=field)


class TimeMixer(nn.Module):
    """x + MLP(conv(norm(x))), the convolution over three frames, for each channel and place apart.

    It knows no absolute time, so a clip's tokens do not drift with it.

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

    def forward(self, field: Tensor) -> Tensor:
        """Mix the frames of fields (B, t, h, w, C)."""
        places = self.norm(field).permute(0, 2, 3, 4, 1).flatten(0, 2)  # (B h w, C, t)
        mixed = self.conv(places).unflatten(0, (field.shape[0], *field.shape[2:4]))
        return field + self.mlp(mixed.permute(0, 4, 1, 2, 3))
