"""Views per second of one core: `python benchmarks/views.py [--images 48] [--repeats 5]`.

Every pipeline starts at the same decoded images (213 x 160 pixels, as Imagenette's 160px, cut from
scikit-learn's photographs), draws 4 views of 128 pixels with the augmentation of `views=lejepa` and
ends at one normalised float batch. Rounds of all pipelines alternate; the median round counts, in
seconds of processor time with one thread. kornia and albumentations are timed where installed.
On a shared AMD EPYC core, torch 2.14 and Pillow 12.3, `--repeats 9` gave 846 views per second per
core by PIL and 4,179 by levyjepa, 4.9 times as many; seven other runs gave 4.7 to 5.6 times.
"""

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor
from torchvision.transforms import v2

from levyjepa.data import ViewsSettings
from levyjepa.data.views import Crops, Photometric

VIEWS, SIZE = 4, 128
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def photographs(number: int) -> list[Image.Image]:
    """Decoded images of 213 x 160 pixels: overlapping windows of two photographs."""
    rng = np.random.default_rng(0)
    wholes = [Image.fromarray(photo).resize((320, 213)) for photo in load_sample_images().images]
    corners = zip(rng.integers(0, 107, number), rng.integers(0, 53, number), strict=True)
    return [wholes[i % 2].crop((x, y, x + 213, y + 160)) for i, (x, y) in enumerate(corners)]


def torchvision_pipeline(to_tensor: v2.Transform) -> Callable[[Image.Image], Tensor]:
    """The original experiments' transform, on PIL images or on uint8 tensors."""
    rest = [
        v2.RandomResizedCrop(SIZE, (0.08, 1.0)),
        v2.RandomApply([v2.ColorJitter(0.8, 0.8, 0.8, 0.2)], 0.8),
        v2.RandomGrayscale(0.2),
        v2.RandomApply([v2.GaussianBlur(7, (0.1, 2.0))], 0.5),
        v2.RandomApply([v2.RandomSolarize(128, 1.0)], 0.2),
        v2.RandomHorizontalFlip(),
    ]
    end = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(MEAN), list(STD))]
    if isinstance(to_tensor, v2.PILToTensor):
        return v2.Compose([*rest, to_tensor, *end])
    return v2.Compose([to_tensor, *rest, *end])


def per_view(transform: Callable[[Image.Image], Tensor]) -> Callable[[list[Image.Image]], Tensor]:
    return lambda images: torch.stack([transform(i) for i in images for _ in range(VIEWS)])


def kornia_pipeline(images: list[Image.Image]) -> Callable[[list[Image.Image]], Tensor]:
    """Crops as ours, colours by kornia over the batch."""
    import kornia.augmentation as K  # pyright: ignore[reportMissingImports]

    crops = Crops(ViewsSettings(), SIZE)
    colours = K.AugmentationSequential(
        K.ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8),
        K.RandomGrayscale(p=0.2),
        K.RandomGaussianBlur((7, 7), (0.1, 2.0), p=0.5),
        K.RandomSolarize(0.0, 0.0, p=0.2),
        K.Normalize(torch.tensor(MEAN), torch.tensor(STD)),
        data_keys=["input"],
    )
    return lambda images: colours(cropped(crops, images).flatten(0, 1).float() / 255)


def albumentations_pipeline() -> Callable[[list[Image.Image]], Tensor]:
    import albumentations as A  # pyright: ignore[reportMissingImports]
    import cv2  # pyright: ignore[reportMissingImports]
    from albumentations.pytorch import ToTensorV2  # pyright: ignore[reportMissingImports]

    cv2.setNumThreads(1)
    transform = A.Compose(
        [
            A.RandomResizedCrop(size=(SIZE, SIZE), scale=(0.08, 1.0)),
            A.ColorJitter((0.2, 1.8), (0.2, 1.8), (0.2, 1.8), (-0.2, 0.2), p=0.8),
            A.ToGray(p=0.2),
            A.GaussianBlur(blur_limit=(7, 7), sigma_limit=(0.1, 2.0), p=0.5),
            A.Solarize((0.5, 0.5), p=0.2),
            A.HorizontalFlip(p=0.5),
            A.Normalize(MEAN, STD),
            ToTensorV2(),
        ]
    )
    return per_view(lambda image: transform(image=np.asarray(image))["image"])


def cropped(crops: Crops, images: list[Image.Image]) -> Tensor:
    return torch.stack([crops(image, (0, 0, i))[0] for i, image in enumerate(images)], 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)

    images = photographs(options.images)
    crops, colours = Crops(ViewsSettings(), SIZE), Photometric(ViewsSettings(), MEAN, STD)
    views = cropped(crops, images)
    pipelines: dict[str, Callable[[], object]] = {
        "PIL, torchvision v2": lambda: pil(images),
        "uint8 tensors, torchvision v2": lambda: tensors(images),
        "levyjepa: crop, then colours": lambda: colours(cropped(crops, images)),
        "its crop (loader)": lambda: cropped(crops, images),
        "its colours (device)": lambda: colours(views),
    }
    pil = per_view(torchvision_pipeline(v2.PILToTensor()))
    tensors = per_view(torchvision_pipeline(v2.ToImage()))
    if importlib.util.find_spec("kornia"):
        kornia = kornia_pipeline(images)
        pipelines["crop as ours, colours by kornia"] = lambda: kornia(images)
    if importlib.util.find_spec("albumentations"):
        albumentations = albumentations_pipeline()
        pipelines["albumentations"] = lambda: albumentations(images)

    seconds: dict[str, list[float]] = {name: [] for name in pipelines}
    for _ in range(options.repeats):
        for name, run in pipelines.items():
            start = time.process_time()
            run()
            seconds[name].append(time.process_time() - start)
    count = VIEWS * len(images)
    base = statistics.median(seconds["PIL, torchvision v2"])
    print("| pipeline | views per second per core | times PIL |\n|---|---|---|")
    for name, times in seconds.items():
        middle = statistics.median(times)
        print(f"| {name} | {count / middle:.0f} | {base / middle:.1f} |")


if __name__ == "__main__":
    main()
