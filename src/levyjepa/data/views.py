"""Views of an image: where it is cropped, in the loader; how its colours change, on the device.

Cropping is torchvision's, image by image, on uint8. The colours of all views of a batch change at
once: brightness, contrast, saturation, hue and gray are linear in a pixel's colour, so each view's
changes are one 3 x 4 matrix. `benchmarks/views.py` times this beside other libraries.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2

from levyjepa.conf.schema import ViewGroup, ViewsConfig

LUMA = torch.tensor([0.299, 0.587, 0.114])
CPU_CHUNK = 16  # views whose float copies stay in a core's cache


@dataclass(frozen=True)
class Batch:
    """Views of a batch of images, colours untouched.

    `views` holds, for each group, (count, B, 3, size, size) uint8; `labels` is (B,) int64, -1 where
    there is none; `corrupt` names the images that could not be decoded and are not among the B.
    """

    views: tuple[Tensor, ...]
    labels: Tensor
    corrupt: tuple[str, ...] = ()

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """Return the batch on `device`."""
        views = tuple(v.to(device, non_blocking=non_blocking) for v in self.views)
        return Batch(views, self.labels.to(device, non_blocking=non_blocking), self.corrupt)

    def pin_memory(self) -> "Batch":
        """Return the batch in page-locked memory."""
        views = tuple(v.pin_memory() for v in self.views)
        return Batch(views, self.labels.pin_memory(), self.corrupt)


def seed_of(*key: int) -> int:
    """Return a 63-bit seed that is a pure function of a few integers of at least 0."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)


def generator_of(*key: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator on `device` seeded by a few integers, as (seed, step, rank)."""
    return torch.Generator(device).manual_seed(seed_of(*key))


@contextmanager
def _seeded(*key: int) -> Iterator[None]:
    """Let torchvision draw from `key`, and leave torch's own state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_of(*key))
        yield


class Crops:
    """Random crops, flips and rotations of one image, as a group of views declares them."""

    def __init__(self, config: ViewsConfig, image_size: int):
        self.groups = [(group.count, _crop(config, group, image_size)) for group in config.groups]

    def __call__(self, image: Image.Image, key: Sequence[int]) -> tuple[Tensor, ...]:
        """Return, for each group, (count, 3, size, size) uint8; `key` is all their randomness."""
        with _seeded(*key):
            whole = v2.functional.pil_to_tensor(image)
            return tuple(
                torch.stack([crop(whole) for _ in range(count)]) for count, crop in self.groups
            )


def _crop(config: ViewsConfig, group: ViewGroup, image_size: int) -> v2.Transform:
    steps: list[nn.Module] = []
    if config.rotation:
        bilinear = v2.InterpolationMode.BILINEAR
        steps.append(v2.RandomRotation([-config.rotation, config.rotation], bilinear))
    steps.append(v2.RandomResizedCrop(group.size or image_size, (group.scale[0], group.scale[1])))
    if config.flip:
        steps.append(v2.RandomHorizontalFlip(config.flip))
    return v2.Compose(steps)


class Photometric(nn.Module):
    """Random colour jitter, gray, blur and solarization of a batch of views, then normalisation.

    The probabilities, the strengths and the order of the steps are torchvision's, with three
    differences: the steps of the jitter are composed before one clamp to [0, 1], instead of one
    clamp and rounding each, in the order hue, saturation, contrast, brightness instead of a random
    one; hue turns colours about the grey axis instead of HSV's hexagon (equal at thirds of a turn);
    nothing is rounded to 1/255.

    Args:
        config: probabilities and strengths.
        mean, std: of the source's pixels in [0, 1], for each channel.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: ViewsConfig, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.register_buffer("std", torch.tensor(std), persistent=False)

    @torch.no_grad()
    def forward(self, views: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return float views (count, B, 3, size, size), normalised.

        Args:
            views: (count, B, 3, size, size) uint8.
            generator: what to draw from, on any device; a generator on the CPU gives the same
                views everywhere.
        """
        flat = views.flatten(0, 1)
        device = generator.device if generator is not None else views.device
        draws = torch.rand(len(flat), 9, generator=generator, device=device)
        draws = draws.to(views.device, non_blocking=True)
        chunk = CPU_CHUNK if views.device.type == "cpu" else max(len(flat), 1)
        with torch.autocast(views.device.type, enabled=False):
            chunks = zip(flat.split(chunk), draws.split(chunk), strict=True)
            return torch.cat([self._change(*each) for each in chunks]).view(views.shape)

    def _change(self, images: Tensor, draws: Tensor) -> Tensor:
        config, u = self.config, draws.unbind(1)
        jittered = u[0] < config.jitter

        def factor(uniform: Tensor, strength: float) -> Tensor:
            low = max(0.0, 1 - strength)
            return torch.where(jittered, low + (1 + strength - low) * uniform, 1.0)

        turns = torch.where(jittered, config.hue * (2 * u[4] - 1), 0.0)
        saturation = torch.where(u[5] < config.gray, 0.0, factor(u[3], config.saturation))
        pixels = jitter(
            images.float() / 255,
            factor(u[1], config.brightness),
            factor(u[2], config.contrast),
            saturation,
            turns,
        )
        if config.blur:
            low, high = config.blur_sigma
            sigma = torch.where(u[6] < config.blur, low + (high - low) * u[7], 0.0)
            pixels = blur(pixels, sigma, config.blur_kernel)
        if config.solarize:
            pixels = solarize(pixels, u[8] < config.solarize)
        return pixels.sub_(self.mean[:, None, None]).div_(self.std[:, None, None])


def jitter(
    pixels: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor, turns: Tensor
) -> Tensor:
    """Return pixels (n, 3, h, w) in [0, 1] after one linear change of colour for each image.

    Args:
        pixels: (n, 3, h, w) float in [0, 1].
        brightness, contrast, saturation: (n,) factors, 1 for no change.
        turns: (n,) of the hue, in whole turns about the grey axis.
    """
    gray = LUMA.to(pixels.device).expand(3, 3)
    matrix = torch.lerp(gray, _turn(turns), saturation[:, None, None])
    luma = (gray[0] @ matrix)[:, None] @ pixels.mean((2, 3))[:, :, None]
    scale = (brightness * contrast)[:, None, None]
    offset = (brightness * (1 - contrast))[:, None, None] * luma
    flat = torch.baddbmm(offset.expand(-1, 3, 1), scale * matrix, pixels.flatten(2))
    return flat.clamp_(0, 1).view(pixels.shape)


def _turn(turns: Tensor) -> Tensor:
    """Return (n, 3, 3) rotations of RGB about the grey axis, by Rodrigues' formula."""
    angle = (2 * math.pi * turns)[:, None, None]
    third = torch.full((3, 3), 1 / 3, device=turns.device)
    eye = torch.eye(3, device=turns.device)
    cross = (eye.roll(1, 0) - eye.roll(1, 1)) / math.sqrt(3)
    return third + angle.cos() * (eye - third) + angle.sin() * cross


def blur(pixels: Tensor, sigma: Tensor, kernel: int) -> Tensor:
    """Return pixels (n, 3, h, w) blurred by a Gaussian of `sigma` (n,) pixels; 0 is none."""
    n, channels, height, width = pixels.shape
    reach = kernel // 2
    at = torch.arange(-reach, reach + 1, device=pixels.device)
    weights = torch.softmax(-0.5 * (at / sigma.clamp(min=1e-3)[:, None]) ** 2, 1)
    weights = weights.repeat_interleave(channels, 0)
    flat = pixels.reshape(1, n * channels, height, width)
    flat = F.pad(flat, (reach, reach, reach, reach), mode="reflect")
    flat = F.conv2d(flat, weights[:, None, None, :], groups=n * channels)
    flat = F.conv2d(flat, weights[:, None, :, None], groups=n * channels)
    return flat.view(pixels.shape)


def solarize(pixels: Tensor, where: Tensor) -> Tensor:
    """Return pixels (n, 3, h, w), those of at least 128/255 inverted in the images `where` (n,)."""
    threshold = torch.where(where, 127.5 / 255, 2.0)[:, None, None, None]
    return torch.where(pixels >= threshold, 1 - pixels, pixels)


def normalise(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return images (..., 3, h, w) uint8 as floats of mean 0 and deviation 1 over the source.

    Args:
        images: (..., 3, h, w) uint8.
        mean, std: of the source's pixels in [0, 1], for each channel.
    """
    center = torch.tensor(mean, device=images.device)[:, None, None]
    width = torch.tensor(std, device=images.device)[:, None, None]
    return (images.float() / 255 - center) / width
