from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp
from sklearn.datasets import load_sample_images
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as T

from levyjepa.data.settings import ViewGroup, ViewsSettings
from levyjepa.data.views import (
    Crops,
    Photometric,
    blur,
    crop_box,
    generator_of,
    jitter,
    normalize,
)

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
STILL = {"jitter": 0.0, "gray": 0.0, "blur": 0.0, "solarize": 0.0}


@pytest.fixture(scope="module")
def photographs() -> Tensor:
    """Two photographs, (2, 3, 96, 96) uint8."""
    found = [T.pil_to_tensor(Image.fromarray(p)) for p in load_sample_images().images]
    return torch.stack([T.resize(photo, [96, 96]) for photo in found])


def changed(photographs: Tensor, **factors: float) -> Tensor:
    """Our jitter of the photographs, back in 0 to 255."""
    n = len(photographs)
    names = ("brightness", "contrast", "saturation", "turns")
    values = [torch.full((n,), factors.get(k, float(k != "turns"))) for k in names]
    return 255 * jitter(photographs.float() / 255, *values)


@pytest.mark.parametrize("factor", [0.2, 1.8])
@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("brightness", T.adjust_brightness),
        ("contrast", T.adjust_contrast),
        ("saturation", T.adjust_saturation),
    ],
)
def test_each_change_of_color_is_torchvisions(
    photographs: Tensor, name: str, theirs: Callable[..., Tensor], factor: float
) -> None:
    ours = changed(photographs, **{name: factor})
    assert (ours - theirs(photographs, factor).float()).abs().max() <= 2


@pytest.mark.parametrize("turns", [1 / 3, -1 / 3])
def test_a_hue_of_a_third_of_a_turn_is_torchvisions(photographs: Tensor, turns: float) -> None:
    ours = changed(photographs, turns=turns)
    assert (ours - T.adjust_hue(photographs, turns).float()).abs().max() <= 2


@pytest.mark.parametrize("saturation", [0.0, 0.5])
def test_changes_of_color_follow_one_another_in_the_stated_order(
    photographs: Tensor, saturation: float
) -> None:
    mild = (photographs // 2 + 64).float() / 255  # that no step leaves [0, 1]
    theirs = T.adjust_saturation(T.adjust_hue(mild, 1 / 3), saturation)
    theirs = T.adjust_brightness(T.adjust_contrast(theirs, 0.8), 0.9)
    values = (torch.full((2,), value) for value in (0.9, 0.8, saturation, 1 / 3))
    assert (jitter(mild, *values) - theirs).abs().max() <= 2 / 255


def test_blur_is_torchvisions_with_a_width_for_each_image(photographs: Tensor) -> None:
    ours = 255 * blur(photographs.float() / 255, torch.tensor([0.4, 1.7]), 7)
    for mine, photo, sigma in zip(ours, photographs, (0.4, 1.7), strict=True):
        theirs = T.gaussian_blur(photo, [7, 7], [sigma, sigma]).float()
        assert (mine - theirs).abs().max() <= 1


def test_colors_are_changed_as_often_and_as_far_as_torchvision_changes_them(
    photographs: Tensor,
) -> None:
    torch.manual_seed(0)
    theirs = v2.Compose(
        [
            v2.RandomApply([v2.ColorJitter(0.8, 0.8, 0.8, 0.2)], 0.8),
            v2.RandomGrayscale(0.2),
            v2.RandomApply([v2.GaussianBlur(7, (0.1, 2.0))], 0.5),
            v2.RandomApply([v2.RandomSolarize(128, 1.0)], 0.2),
        ]
    )
    small = T.resize(photographs[0], [32, 32])
    reference = torch.stack([theirs(small) for _ in range(500)]).float() / 255
    module = Photometric(ViewsSettings(), (0.0,) * 3, (1.0,) * 3)
    ours = module(small.expand(1, 500, -1, -1, -1), generator_of(0))[0]

    def summaries(images: Tensor) -> list[Tensor]:
        spread = (images.amax(1) - images.amin(1)).mean((1, 2))
        detail = images.diff(dim=-1).abs().mean((1, 2, 3))
        return [images.mean((1, 2, 3)), images.std((1, 2, 3)), spread, detail]

    for mine, other in zip(summaries(ours), summaries(reference), strict=True):
        assert ks_2samp(mine, other).statistic < 0.12


def test_without_changes_colors_are_only_normalized(photographs: Tensor) -> None:
    still = Photometric(ViewsSettings(**STILL), MEAN, STD)(photographs[None])
    torch.testing.assert_close(still[0], normalize(photographs, MEAN, STD), atol=1e-5, rtol=0)
    theirs = T.normalize(photographs.float() / 255, list(MEAN), list(STD))
    torch.testing.assert_close(normalize(photographs, MEAN, STD), theirs)


def test_colors_do_not_depend_on_how_a_batch_is_cut_for_the_cache(
    photographs: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, stack = Photometric(ViewsSettings(), MEAN, STD), photographs.expand(6, -1, -1, -1, -1)
    monkeypatch.setattr("levyjepa.data.views.CPU_PIXELS", stack.numel())
    whole = module(stack, generator_of(2))
    monkeypatch.setattr("levyjepa.data.views.CPU_PIXELS", 1)
    torch.testing.assert_close(module(stack, generator_of(2)), whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("step", "theirs"),
    [
        ("gray", lambda x: T.rgb_to_grayscale(x, num_output_channels=3)),
        ("solarize", lambda x: T.solarize(x, 128)),
    ],
)
def test_a_step_of_probability_one_is_torchvisions_on_every_view(
    photographs: Tensor, step: str, theirs: Callable[[Tensor], Tensor]
) -> None:
    config = ViewsSettings(**STILL | {step: 1.0})
    views = photographs.expand(10, -1, -1, -1, -1)
    ours = 255 * Photometric(config, (0.0,) * 3, (1.0,) * 3)(views)
    assert (ours - theirs(photographs).float()).abs().max() <= 2


def test_colors_keep_their_precision_under_autocast(photographs: Tensor) -> None:
    module = Photometric(ViewsSettings(), MEAN, STD)
    plain = module(photographs[None], generator_of(1))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(module(photographs[None], generator_of(1)), plain)


def test_crops_are_drawn_as_torchvision_draws_them() -> None:
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    theirs = v2.RandomResizedCrop(128, (0.08, 1.0))
    image = torch.empty(3, 160, 213)
    boxes = np.array([crop_box(160, 213, (0.08, 1.0), random) for _ in range(2000)])
    params = [theirs.make_params([image]) for _ in range(2000)]
    reference = np.array([[p[k] for k in ("top", "left", "height", "width")] for p in params])
    for ours, other in zip(boxes.T, reference.T, strict=True):
        assert ks_2samp(ours, other).pvalue > 0.001


@pytest.mark.parametrize(("height", "width"), [(20, 400), (400, 20)])
def test_a_narrow_image_is_cropped_at_its_center(height: int, width: int) -> None:
    random = np.random.default_rng(0)
    top, left, h, w = crop_box(height, width, (1.0, 1.0), random)
    assert (top, left) == ((height - h) // 2, (width - w) // 2)
    assert min(h, w) == min(height, width)
    assert 0.7 < w / h < 1.4


def test_groups_have_their_own_count_and_size(photographs: Tensor) -> None:
    groups = [
        ViewGroup(count=2, scale=(0.3, 1.0)),
        ViewGroup(count=6, size=16, scale=(0.05, 0.3)),
    ]
    crops = Crops(ViewsSettings(groups=groups, rotation=10.0), 32)
    image = T.to_pil_image(photographs[0])
    large, small = crops(image, (0, 0, 7))
    assert (large.shape, large.dtype) == ((2, 3, 32, 32), torch.uint8)
    assert small.shape == (6, 3, 16, 16)
    again = crops(image, (0, 0, 7))
    assert torch.equal(large, again[0])
    assert not torch.equal(large, crops(image, (0, 1, 7))[0])


def test_flips_and_rotations_follow_the_settings(photographs: Tensor) -> None:
    image, photo = T.to_pil_image(photographs[0]), photographs[0]
    whole = [ViewGroup(count=40, scale=(1.0, 1.0))]

    def flipped(flip: float) -> int:
        views = Crops(ViewsSettings(groups=whole, flip=flip), 96)(image, (0,))[0].float()
        apart = [(v - photo.flip(-1)).abs().mean() < (v - photo).abs().mean() for v in views]
        return sum(map(bool, apart))

    assert flipped(0.0) == 0
    assert flipped(1.0) == 40
    assert 8 < flipped(0.5) < 32
    turned = Crops(ViewsSettings(groups=whole, flip=0.0, rotation=30.0), 96)(image, (0,))[0]
    corners = turned[:, :, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners == 0).all(1).float().mean() > 0.5  # black, where the image ends


def test_drawing_views_leaves_torchs_own_random_numbers_alone(photographs: Tensor) -> None:
    before = torch.get_rng_state()
    views = Crops(ViewsSettings(), 32)(T.to_pil_image(photographs[0]), (0, 0, 0))
    Photometric(ViewsSettings(), MEAN, STD)(views[0][:, None], generator_of(0))
    assert torch.equal(before, torch.get_rng_state())
