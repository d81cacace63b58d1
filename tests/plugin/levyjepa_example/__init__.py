"""What a package adds to levyjepa without touching its files: data, an encoder and a task."""

import numpy as np
import torch
from torch import Tensor, nn

from levyjepa.data import DataSettings, Source, register_source
from levyjepa.models import Encoder, Encoding, register_encoder
from levyjepa.tasks import Context, Score, register_task


@register_source(
    "stripes", preset={"data": {"image_size": 32, "batch_size": 16}, "use": {"model": "tiny"}}
)
def stripes(settings: DataSettings) -> Source:
    """Stripes along one of two directions, in random colors."""
    random = np.random.default_rng(0)

    def images(number: int) -> list[tuple[np.ndarray, int]]:
        items = []
        for index in range(number):
            wave = np.sin(np.arange(40) * random.uniform(0.5, 1.0) + random.uniform(0, 6))
            gray = np.broadcast_to(wave[:, None] if index % 2 else wave, (40, 40))
            color = random.uniform(60, 127, 3)
            items.append(((128 + gray[..., None] * color).astype(np.uint8), index % 2))
        return items

    return Source("stripes", images(64), images(32), classes=("upright", "level"))


@register_encoder("patch_means")
class PatchMeans(Encoder):
    """One linear layer on the mean color and the contrast of each 8 x 8 patch."""

    def __init__(
        self, image_size: int, frames: int | None, embedding_dim: int, width: int = 16
    ) -> None:
        super().__init__()
        self.patch_size, self.width, self.embedding_dim = (8, 8), width, embedding_dim
        self.lift = nn.Linear(6, width)
        self.embed = nn.Linear(width, embedding_dim)

    def forward(self, images: Tensor) -> Encoding:
        """Encode images (B, 3, H, W)."""
        patches = images.unfold(2, 8, 8).unfold(3, 8, 8)  # (B, 3, h, w, 8, 8)
        parts = [patches.mean((-2, -1)), patches.std((-2, -1))]
        tokens = torch.tanh(self.lift(torch.cat(parts, 1).movedim(1, -1)))
        return Encoding(embedding=self.embed(tokens.mean((1, 2))), tokens=tokens)


@register_task("brightness", needs=("images",), order=95)
def brightness(context: Context) -> list[Score]:
    """How well the brightness of an image can be read off its embedding, by least squares."""
    test = context.test
    bright = test.images.float().mean((1, 2, 3))[:, None]
    features = torch.cat([test.embedding[test.rows], torch.ones(len(bright), 1)], 1)
    fitted = features @ torch.linalg.lstsq(features, bright).solution
    share = 1 - (bright - fitted).square().sum() / (bright - bright.mean()).square().sum()
    return [
        Score(
            "r2",
            float(share),
            n=len(bright),
            unit="",
            chance=0.0,
            title="Variance of brightness explained",
            note="R squared of a least-squares fit on the test images.",
            headline=True,
        )
    ]
