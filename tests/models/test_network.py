import pytest
import torch
from tests.models.test_encoder import Patches
from torch import nn

from levyjepa.models import ModelSettings, Network, build_encoder

SETTINGS = ModelSettings.parse(
    {
        "embedding_dim": 32,
        "projection_hidden": 24,
        "patch_projection_hidden": 20,
        "patch_projection_dim": 6,
        "drop_path": 0.0,
        "overrides": {"embed_dim": 48, "depth": 1, "num_heads": 3},
    }
)


def network(
    prior: bool = True, num_classes: int = 5, settings: ModelSettings = SETTINGS
) -> Network:
    torch.manual_seed(0)
    return Network(build_encoder(settings, (16, 24)), settings, num_classes, prior)


def test_shapes_of_an_output():
    output = network()(torch.randn(2, 3, 16, 24))
    assert output.embedding.shape == (2, 32)
    assert output.projection.shape == (2, 16)
    assert output.field is not None
    assert output.field.shape == (2, 2, 3, 6)


def test_heads_of_the_published_results():
    settings = ModelSettings.parse({"overrides": SETTINGS.overrides})
    heads = network(settings=settings, num_classes=10)
    assert heads.probe is not None
    for head, norm, width in (
        (heads.projection, nn.BatchNorm1d, 512),
        (heads.patch_projection, nn.LayerNorm, 48),
    ):
        linear = [layer for layer in head if isinstance(layer, nn.Linear)]
        assert [layer.in_features for layer in linear] == [width, 2048, 2048]
        assert linear[-1].out_features == 16
        assert sum(isinstance(layer, norm) for layer in head) == 2
    assert [type(layer) for layer in heads.probe] == [nn.LayerNorm, nn.Linear]


def test_the_same_seed_starts_alike_with_and_without_the_prior():
    with_prior, without = network(True).state_dict(), network(False).state_dict()
    assert with_prior.keys() == without.keys()
    for key, value in with_prior.items():
        assert torch.equal(value, without[key]), key


def test_without_the_prior_every_trainable_parameter_gets_a_gradient():
    model = network(prior=False)
    output = model(torch.randn(4, 3, 16, 24), field=False)
    assert output.field is None
    assert model.probe is not None
    (output.projection.sum() + model.probe(output.embedding.detach()).sum()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad != name.startswith("patch_projection"), name
        assert (parameter.grad is None) == name.startswith("patch_projection"), name


def test_no_field_runs_nothing_of_the_patch_projection():
    model = network()
    model.patch_projection.register_forward_hook(lambda *_: pytest.fail("it ran"))
    model(torch.randn(2, 3, 16, 24), field=False)


def test_no_classes_no_probe():
    assert network(num_classes=0).probe is None
    with pytest.raises(ValueError, match="`num_classes` must be at least 0, got -1"):
        network(num_classes=-1)


def test_an_untrained_copy_is_a_function_of_its_seed_and_touches_no_other_draw():
    model = network(num_classes=3)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = model.untrained(1), model.untrained(1), model.untrained(2)
    assert torch.equal(torch.rand(1), expected)
    name = "encoder.embed.1.weight"
    assert torch.equal(first.state_dict()[name], again.state_dict()[name])
    assert not torch.equal(first.state_dict()[name], other.state_dict()[name])
    assert first.state_dict().keys() == model.state_dict().keys()


@pytest.mark.parametrize(("head", "channels"), [("mlp", 6), ("linear", 6), ("none", 48)])
def test_the_prior_may_see_tokens_a_linear_map_or_a_projection(head: str, channels: int):
    model = network(settings=SETTINGS.replace(patch_projection=head))
    field = model(torch.randn(2, 3, 16, 24)).field
    assert field is not None
    assert field.shape[-1] == channels
    encoders = [other.untrained(3).encoder for other in (network(), model)]
    for one, other in zip(encoders[0].parameters(), encoders[1].parameters(), strict=True):
        assert torch.equal(one, other)


def test_parameters_have_the_names_that_checkpoints_hold():
    names = {".".join(key.split(".")[:2]) for key in network().state_dict()}
    assert {"encoder.vit", "encoder.pool", "encoder.embed"} <= names
    heads = {name.split(".")[0] for name in names}
    assert heads == {"encoder", "projection", "patch_projection", "probe"}


def test_ones_own_encoder_is_copied_and_drawn_anew():
    """Also parameters that no `reset_parameters` knows."""
    model = Network(Patches(), SETTINGS, 3, prior=True)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7.0)
    first, again, other = model.untrained(1), model.untrained(1), model.untrained(2)
    for key, value in first.named_parameters():
        assert torch.equal(value, again.get_parameter(key)), key
        assert not (value == 7.0).any(), key
        if value.std() > 0:
            assert not torch.equal(value, other.get_parameter(key)), key
    assert (model.encoder.bias == 7.0).all()
    assert first(torch.randn(2, 3, 16, 16)).projection.shape == (2, 16)
