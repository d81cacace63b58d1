"""Views of an image or clip: crops are taken in the loader, colors change on the device.

Cropping is torchvision's, image by image, on uint8. The colors of all views of a batch change at
once: brightness, contrast, saturation, hue and gray are linear in a pixel's color, so the changes
of a view are one 3 x 4 matrix. `benchmarks/views.py` compares its speed with other libraries.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2.functional import pil_to_tensor, resized_crop

from levyjepa.data.images import to_rgb
from levyjepa.data.settings import ViewGroup, ViewsSettings

Random = np.random.Generator
LUMA = torch.tensor([0.299, 0.587, 0.114])
MAX_LOG_RATIO = math.log(4 / 3)  # of a crop's width to its height
CPU_PIXELS = 2**17  # of a chunk of views, whose float copies then stay in a core's cache


class Batch(NamedTuple):
    """Views of a batch of images or clips, for each group; colors are untouched."""

    views: tuple[Tensor, ...]  # (count, B, 3, size, size) uint8, of clips (count, B, T, 3, ...)
    labels: Tensor  # (B,) int64, -1 where there is none
    corrupt: tuple[str, ...] = ()  # names of images that can't be decoded, not among the B
    valid: tuple[Tensor, ...] = ()  # (count, B, T) bool, False beyond a video's end; empty if none

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """Return the batch on `device`."""
        views, (labels,), valid = (
            tuple(tensor.to(device, non_blocking=non_blocking) for tensor in tensors)
            for tensors in (self.views, [self.labels], self.valid)
        )
        return Batch(views, labels, self.corrupt, valid)


def seed_of(*key: int) -> int:
    """Return a 63-bit seed that is a pure function of a few integers of at least 0."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)


def generator_of(*key: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator on `device` seeded by a few integers, as (seed, step, rank)."""
    return torch.Generator(device).manual_seed(seed_of(*key))


@dataclass
class Crops:
    """Random crops, flips and rotations of one image, for each group of views."""

    settings: ViewsSettings
    image_size: int  # pixels, of views whose group names no size

    def __call__(self, image: Image.Image | np.ndarray, key: Sequence[int]) -> tuple[Tensor, ...]:
        """Return, for each group, (count, 3, size, size) uint8: a pure function of image and key.

        An array is (H, W, 3) uint8; a key is integers of at least 0, as (seed, epoch, index).
        """
        random, rgb = np.random.default_rng(key), to_rgb(image)
        pixels = pil_to_tensor(rgb)

        def turned(angle: float) -> Tensor:
            return pil_to_tensor(rgb.rotate(angle, Image.Resampling.BILINEAR))

        return tuple(
            torch.stack([self.crop(pixels, turned, group, random) for _ in range(group.count)])
            for group in self.settings.groups
        )

    def crop(
        self, pixels: Tensor, turned: Callable[[float], Tensor], group: ViewGroup, random: Random
    ) -> Tensor:
        """Return one view (..., 3, size, size) of pixels (..., 3, H, W), both uint8.

        `turned` gives the pixels after a rotation by an angle in degrees.
        """
        if rotation := self.settings.rotation:
            pixels = turned(random.uniform(-rotation, rotation))
        size = group.size or self.image_size
        height, width = pixels.shape[-2:]
        box = crop_box(height, width, group.scale, random)
        cropped = resized_crop(pixels, *box, [size, size], antialias=True)
        return cropped.flip(-1) if random.random() < self.settings.flip else cropped


def crop_box(
    height: int, width: int, scale: Sequence[float], random: Random
) -> tuple[int, int, int, int]:
    """Return the top, left, height and width of a crop, as torchvision's RandomResizedCrop.

    That one's own draws cost as much as the crop and need torch's global generator.
    """
    least, most = scale
    for _ in range(10):
        area = height * width * random.uniform(least, most)
        ratio = math.exp(random.uniform(-MAX_LOG_RATIO, MAX_LOG_RATIO))
        h, w = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if 0 < h <= height and 0 < w <= width:
            return int(random.integers(height - h + 1)), int(random.integers(width - w + 1)), h, w
    h, w = min(height, round(width * 4 / 3)), min(width, round(height * 4 / 3))
    return (height - h) // 2, (width - w) // 2, h, w


class Photometric(nn.Module):
    """Random color jitter, gray, blur and solarization of a batch of views, then normalization.

    Probabilities, strengths and the order of the steps are torchvision's. Three things differ. The
    steps of the jitter, in the order hue, saturation, contrast, brightness, are composed and then
    clamped to [0, 1] once. Hue rotates colors about the gray axis, where torchvision moves along
    HSV's hexagon (they agree at thirds of a turn). Nothing is rounded to 1/255.

    Args:
        settings: Probabilities and strengths.
        mean, std: Of the source's pixels in [0, 1], for each channel.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, settings: ViewsSettings, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__()
        self.settings = settings
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    @torch.no_grad()
    def forward(self, views: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return normalized float views of the same shape; the frames of a clip change alike.

        Args:
            views: (count, B, 3, size, size) uint8 of images, (count, B, T, 3, size, size) of clips,
                on any device.
            generator: Where draws come from, on the CPU; None: torch's own. Views are thus the same
                on every device, and the host knows which to blur without waiting.
        """
        settings, flat = self.settings, views.flatten(0, -4)
        u = torch.rand(9, views.shape[0] * views.shape[1], generator=generator)
        u = u.repeat_interleave(len(flat) // max(u.shape[1], 1), dim=1)
        jittered = u[0] < settings.jitter

        def factor(uniform: Tensor, strength: float) -> Tensor:
            low = max(0.0, 1 - strength)
            return torch.where(jittered, low + (1 + strength - low) * uniform, 1.0)

        brightness, contrast = factor(u[1], settings.brightness), factor(u[2], settings.contrast)
        saturation = torch.where(u[5] < settings.gray, 0.0, factor(u[3], settings.saturation))
        turns = torch.where(jittered, settings.hue * (2 * u[4] - 1), 0.0)
        low, high = settings.blur_sigma
        drawn = torch.stack((brightness, contrast, saturation, turns, low + (high - low) * u[7]))
        blurred, solarized = u[6] < settings.blur, u[8] < settings.solarize

        drawn = drawn.to(flat.device, non_blocking=True)
        out = torch.empty(flat.shape, device=flat.device)
        on_cpu = flat.device.type == "cpu"
        step = max(1, CPU_PIXELS // flat.shape[-1] ** 2) if on_cpu else max(1, len(flat))
        with torch.autocast(flat.device.type, enabled=False):
            for at in range(0, len(flat), step):
                part = slice(at, at + step)
                *change, sigma = drawn[:, part]
                pixels = jitter(flat[part].float() / 255, *change)
                if len(rows := _indices(blurred[part], flat.device)):
                    pixels[rows] = blur(pixels[rows], sigma[rows], settings.blur_kernel)
                if len(rows := _indices(solarized[part], flat.device)):
                    pixels[rows] = solarize(pixels[rows])
                torch.sub(pixels, self.mean, out=out[part]).div_(self.std)
        return out.view(views.shape)


def _indices(chosen: Tensor, device: torch.device) -> Tensor:
    return chosen.nonzero()[:, 0].to(device, non_blocking=True)


def jitter(
    pixels: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor, turns: Tensor
) -> Tensor:
    """Return pixels (n, 3, h, w) in [0, 1] after a linear change of each image's colors.

    Brightness, contrast and saturation are factors (n,), `turns` (n,) are rotations of the hue.
    """
    gray = LUMA.to(pixels.device, non_blocking=True).expand(3, 3)
    turn = _turn(turns)
    matrix = torch.lerp(gray @ turn, turn, saturation[:, None, None])
    luma = (gray[0] @ matrix)[:, None] @ pixels.mean((2, 3))[:, :, None]
    scale = (brightness * contrast)[:, None, None]
    offset = (brightness * (1 - contrast))[:, None, None] * luma
    flat = torch.baddbmm(offset.expand(-1, 3, 1), scale * matrix, pixels.flatten(2))
    return flat.clamp_(0, 1).view(pixels.shape)


def _turn(turns: Tensor) -> Tensor:
    """Return (n, 3, 3) rotations of RGB about the gray axis, by Rodrigues' formula."""
    angle = (2 * math.pi * turns)[:, None, None]
    third = torch.full((3, 3), 1 / 3, device=turns.device)
    eye = torch.eye(3, device=turns.device)
    cross = (eye.roll(1, 0) - eye.roll(1, 1)) / math.sqrt(3)
    return third + angle.cos() * (eye - third) + angle.sin() * cross


def blur(pixels: Tensor, sigma: Tensor, kernel: int) -> Tensor:
    """Return pixels (n, 3, h, w) blurred by Gaussians of `sigma` (n,), `kernel` pixels wide.

    It sums shifted images, axis by axis, which is faster here than a grouped convolution.
    """
    reach = kernel // 2
    at = torch.arange(-reach, reach + 1, device=pixels.device)
    weights = torch.softmax(-0.5 * (at / sigma[:, None].clamp(min=1e-3)) ** 2, 1)
    weights = weights[:, reach:, None, None, None]
    for axis, padding in ((3, (reach, reach, 0, 0)), (2, (0, 0, reach, reach))):
        size = pixels.shape[axis]
        padded = F.pad(pixels, padding, mode="reflect")
        pixels = padded.narrow(axis, reach, size) * weights[:, 0]
        for i in range(1, reach + 1):
            sides = padded.narrow(axis, reach - i, size) + padded.narrow(axis, reach + i, size)
            pixels.addcmul_(sides, weights[:, i])
    return pixels


def solarize(pixels: Tensor) -> Tensor:
    """Return pixels in [0, 1], those of at least 128/255 inverted."""
    # |x - 1| = 1 - x is on a CPU several times faster than `torch.where`
    return (pixels - (pixels >= 127.5 / 255).float()).abs_()


def normalize(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return images (..., 3, h, w) uint8 as floats of mean 0 and standard deviation 1.

    Args:
        images: (..., 3, h, w) uint8.
        mean, std: Of the source's pixels in [0, 1], for each channel.
    """
    center, width = (torch.tensor(m, device=images.device)[:, None, None] for m in (mean, std))
    return (images.float() / 255 - center) / width
