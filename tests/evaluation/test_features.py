from types import SimpleNamespace

import pytest
import torch
from torch import nn

from levyjepa.evaluation import extract, fields, pixels
from levyjepa.models import Encoder


def batches(side: int = 16) -> list[SimpleNamespace]:
    draw = torch.Generator().manual_seed(0)
    return [
        SimpleNamespace(
            images=torch.randint(256, (n, 3, side, side), generator=draw, dtype=torch.uint8),
            labels=torch.arange(n),
            corrupt=(),
        )
        for n in (3, 2)
    ]


def scaled(images: torch.Tensor) -> torch.Tensor:
    return images.float() / 255


def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(image_size=16, embedding_dim=7, embed_dim=24, depth=2, num_heads=2)


def test_features_are_the_embeddings_of_evaluation_mode_in_order():
    model = encoder()
    features = extract(model, batches(), scaled)
    assert features.labels.tolist() == [0, 1, 2, 0, 1]
    assert not features.embedding.requires_grad
    model.eval()
    expected = [model(scaled(image[None])).embedding for b in batches() for image in b.images]
    torch.testing.assert_close(features.embedding, torch.cat(expected).detach())


def test_a_network_lends_its_encoder():
    model = encoder()
    wrapped = nn.ModuleDict({"encoder": model})
    wrapped.encoder = model
    assert torch.equal(
        extract(wrapped, batches(), scaled).embedding, extract(model, batches(), scaled).embedding
    )


def test_every_module_gets_its_mode_back_even_after_an_error():
    model = encoder().train()
    model.embed.eval()
    before = {name: module.training for name, module in model.named_modules()}
    extract(model, batches(), scaled)
    assert {name: module.training for name, module in model.named_modules()} == before
    with pytest.raises(ZeroDivisionError):
        extract(model, batches(), lambda images: images * (1 // 0))
    assert {name: module.training for name, module in model.named_modules()} == before


def test_pixels_are_raw_and_large_images_are_averaged_down():
    raw = pixels(batches())
    torch.testing.assert_close(raw.embedding[3], batches()[1].images[0].flatten() / 255)
    large = pixels(batches(side=64))
    assert large.embedding.shape == (5, 3 * 32 * 32)
    corner = batches(side=64)[0].images[0, 0, :2, :2].float().mean() / 255
    torch.testing.assert_close(large.embedding[0, 0], corner)


def test_an_empty_loader_is_an_error():
    with pytest.raises(ValueError, match="at least one batch"):
        pixels([])


def test_fields_are_the_tokens_of_evaluation_mode_or_their_projection():
    model = encoder().train()
    images = batches()[0].images
    found = fields(model, images, scaled)
    assert found.shape == (3, 2, 2, 24)
    assert model.training
    expected = model.eval()(scaled(images)).field
    torch.testing.assert_close(found, expected.detach())
    network = nn.ModuleDict({"encoder": model, "patch_projection": nn.Linear(24, 5)})
    network.encoder, network.patch_projection = model, network["patch_projection"]
    torch.testing.assert_close(fields(network, images, scaled), found)
    torch.testing.assert_close(
        fields(network, images, scaled, projected=True),
        network.patch_projection(expected).detach(),
    )
