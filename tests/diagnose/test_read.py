"""Tokens of a frozen model, and the images that they are read from."""

import pytest
import torch
from torch import nn

from levyjepa.data.images import CorruptImageError
from levyjepa.data.source import Source
from levyjepa.diagnose import read_fields, sample_images
from levyjepa.models import Encoder, Encoding
from levyjepa.training import load


def pixels(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)


def test_layers_are_read_as_the_model_computes_them():
    frozen, images = load("vit_tiny_patch16_224"), pixels(3)
    statistics = frozen.mean, frozen.std
    linear = nn.Linear(192, 4)
    fields = read_fields(frozen.encoder, images, *statistics, projection=linear)
    assert list(fields) == ["layer 3", "layer 6", "layer 9", "layer 12", "projected"]
    assert fields["layer 3"].shape == (3, 2, 2, 192)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in statistics)
    with torch.no_grad():
        last = frozen.encoder((images / 255 - mean) / std).tokens
        torch.testing.assert_close(fields["layer 12"], last, atol=1e-5, rtol=0)
        torch.testing.assert_close(fields["projected"], linear(last), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="from 1 to 12, got 13"):
        read_fields(frozen.encoder, images, *statistics, [13])


class Linear(Encoder):
    """One layer of linear patches."""

    width, embedding_dim, patch_size = 8, 8, (8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 8, stride=8)

    def forward(self, images):
        tokens = self.conv(images).movedim(1, -1)
        return Encoding(tokens.mean((1, 2)), tokens)


def test_an_encoder_without_layers_gives_its_tokens():
    fields = read_fields(Linear(), pixels(2), (0.5,) * 3, (0.5,) * 3)
    assert {name: field.shape for name, field in fields.items()} == {"layer 1": (2, 4, 4, 8)}


class Broken(list):
    """Images of which one can't be decoded."""

    def __getitem__(self, index):
        if index == 1:
            raise CorruptImageError("image 1")
        return super().__getitem__(index)


def test_images_are_drawn_from_the_test_split_first():
    dark = torch.zeros(32, 48, 3, dtype=torch.uint8).numpy()
    test, train = Broken([(dark, -1)] * 5), [(dark + 255, -1)] * 20
    source = Source("gray", train=train, test=test)
    images = sample_images(source, 16, 10)
    assert images.shape == (10, 3, 16, 16)
    assert (images.float().mean((1, 2, 3)) == 0).sum() == 4
    assert torch.equal(images, sample_images(source, 16, 10))
    with pytest.raises(ValueError, match="At least 8 images are needed, got 4 of few; 1 can't be"):
        sample_images(Source("few", train=[], test=test), 16)
    with pytest.raises(ValueError, match="few gives clips"):
        sample_images(Source("few", train=train, clips=True), 16)
