"""A baseline: raw pixels as patch tokens."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, adaptive_avg_pool3d

from levyjepa.models.encoder import Encoder, Encoding

SIDE = 32  # pixels, at most, of an image in the embedding


class PixelEncoder(Encoder):
    """Give raw pixels in [0, 1] as tokens and as the embedding.

    The embedding is the image averaged down to at most 32 x 32 pixels, of a clip a quarter of its
    frames at 16 x 16. A token is a patch.

    Args:
        patch_size: Pixels (h, w) of a patch, one number for both; of clips (frames, h, w), one
            frame if left out.
        mean, std: Of the normalization, which it undoes, for each channel.
        frames: Of a clip; None for images.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        patch_size: int | Sequence[int],
        mean: Sequence[float],
        std: Sequence[float],
        frames: int | None = None,
    ) -> None:
        super().__init__()
        patch = (patch_size, patch_size) if isinstance(patch_size, int) else tuple(patch_size)
        self.frames = frames
        self.patch_size = patch if frames is None or len(patch) == 3 else (1, *patch)
        self.width = 3 * math.prod(patch)
        pooled = SIDE**2 if frames is None else -(-frames // 4) * (SIDE // 2) ** 2
        self.embedding_dim = 3 * pooled
        self.mean = nn.Buffer(torch.tensor(mean)[:, None, None], persistent=False)
        self.std = nn.Buffer(torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Encoding:
        """Undo the normalization of images (B, 3, H, W) or clips (B, T, 3, H, W)."""
        pixels = small = images * self.std + self.mean
        if self.frames is not None:
            coarse = -(-pixels.shape[1] // 4), SIDE // 2, SIDE // 2
            small = adaptive_avg_pool3d(pixels.transpose(1, 2), coarse)
        elif max(pixels.shape[-2:]) > SIDE:
            small = adaptive_avg_pool2d(pixels, SIDE)
        grid = self.grid((*images.shape[1:-3], *images.shape[-2:]))
        (t, h, w), (frames, high, wide) = (1, *grid)[-3:], (1, *self.patch_size)[-3:]
        cut = pixels.reshape(len(pixels), t, frames, 3, h, high, w, wide)
        tokens = cut.permute(0, 1, 4, 6, 2, 3, 5, 7).reshape(len(pixels), *grid, self.width)
        return Encoding(embedding=small.flatten(1), tokens=tokens)
