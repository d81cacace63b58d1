"""Where a trained network sees jumps in a picture."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from levyjepa.data import normalise
from levyjepa.evaluation import increment_map, jump_map
from levyjepa.training.checkpoint import Trained


@dataclass(frozen=True)
class Jumps:
    """A picture as a network sees it, whole patches, and its (h, w) inner patch corners."""

    image: np.ndarray  # (H, W, 3) of uint8
    probability: np.ndarray  # (h, w) in [0, 1], of a jump
    change: np.ndarray  # (h, w), the norm of the change, of mean square 1


def read_jumps(trained: Trained, path: str | Path) -> Jumps:
    """Where a network sees jumps in a picture.

    Args:
        trained: A network; without the prior its field is first brought to the law's scale.
        path: A picture of any size; its shorter side becomes the network's image size.

    Raises:
        ValueError: A file that is no picture.
    """
    image = _picture(Path(path), trained)
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None]
    with torch.inference_mode():
        field = trained.network(normalise(tensor, trained.mean, trained.std)).field
        probability = jump_map(field, trained.law, rescale=trained.config.objective.gamma == 0)
        return Jumps(image, probability[0].numpy(), increment_map(field)[0].numpy())


def _picture(path: Path, trained: Trained) -> np.ndarray:
    try:
        image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    except FileNotFoundError:
        raise ValueError(f"`image` must be a file, got {path}.") from None
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"`image` must be a picture, got {path}.") from error
    side = trained.config.data.image_size
    height, width = trained.network.encoder.vit.patch_embed.patch_size
    scale = side / min(image.size)
    wide = max(side, round(image.width * scale / width) * width)
    tall = max(side, round(image.height * scale / height) * height)
    return np.array(ImageOps.fit(image, (wide, tall), Image.Resampling.BICUBIC))
