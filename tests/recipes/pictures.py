"""Real pictures inside of packages, as small batches."""

import numpy as np
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor


def photographs(count: int = 8, size: int = 64, seed: int = 0) -> Tensor:
    """Return random crops of scikit-learn's two photographs, (count, 3, size, size)."""
    images, generator = load_sample_images().images, np.random.default_rng(seed)
    crops = []
    for n in range(count):
        image = images[n % len(images)]
        y, x = (int(generator.integers(0, side - size)) for side in image.shape[:2])
        crops.append(torch.from_numpy(image[y : y + size, x : x + size].copy()))
    return (torch.stack(crops).movedim(-1, 1) / 255 - 0.5) / 0.25
