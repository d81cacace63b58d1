import pytest
import torch

from levyjepa.models import ModelSettings, Network, build_encoder, check_encoder
from levyjepa.models.pooled import FrameEncoder, TimeMixer

SETTINGS = ModelSettings.parse(
    {
        "name": "vit_tiny_patch16_224",
        "patch_size": 4,
        "drop_path": 0.0,
        "embedding_dim": 16,
        "projection_hidden": 24,
        "patch_projection_hidden": 24,
        "overrides": {"embed_dim": 32, "depth": 2, "num_heads": 2},
    }
)


def encoder(**settings) -> FrameEncoder:
    torch.manual_seed(0)
    found = build_encoder(SETTINGS.replace(**settings), 16, 5).eval()
    assert isinstance(found, FrameEncoder)
    return found


def clips(seed: int = 0, frames: int = 5) -> torch.Tensor:
    return torch.randn(2, frames, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def test_a_clip_becomes_a_field_in_time_and_space_and_an_embedding():
    found = encoder()(clips())
    assert found.tokens.shape == (2, 5, 4, 4, 32)
    assert found.embedding.shape == (2, 16)
    assert encoder()(clips(frames=1)).tokens.shape == (2, 1, 4, 4, 32)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_frame_reaches_as_far_as_the_mixer_is_deep(depth):
    model, before = encoder(mixer_depth=depth), clips(frames=7)
    after = before.clone()
    after[:, 3] = clips(1, 7)[:, 3]
    with torch.no_grad():
        moved = (model(before).tokens != model(after).tokens).any(-1).any(-1).any(-1)
    assert moved.tolist() == [[abs(t - 3) <= depth for t in range(7)]] * 2


def test_the_mixer_joins_frames_of_one_place_alone():
    torch.manual_seed(0)
    mixer, field = TimeMixer(8), torch.randn(2, 5, 3, 4, 8)
    moved = field.clone()
    moved[:, 2, 1, 3] = torch.randn(8)
    changed = (mixer(field) != mixer(moved)).any(-1)
    assert changed[:, 1:4, 1, 3].all()
    changed[:, 1:4, 1, 3] = False
    assert not changed.any()


def test_a_clip_that_stands_still_has_tokens_that_do():
    still = clips()[:, :1].expand(2, 5, 3, 16, 16)
    with torch.no_grad():
        tokens = encoder(mixer_depth=2)(still).tokens
    torch.testing.assert_close(tokens, tokens[:, :1].expand_as(tokens))


def test_without_a_mixer_frames_are_encoded_as_images():
    model = encoder(mixer_depth=0)
    with torch.no_grad():
        found = model(clips())
        fields = [model.image(frame).tokens for frame in clips().unbind(1)]
    torch.testing.assert_close(found.tokens, torch.stack(fields, 1))


def test_every_parameter_of_a_network_of_clips_has_a_gradient():
    network = Network(check_encoder(encoder(), 16, 4), SETTINGS, 10, prior=True).train()
    output = network(torch.randn(4, 4, 3, 16, 16))
    assert output.field is not None
    assert output.field.shape == (4, 4, 4, 4, 16)
    assert (network.encoder.patch_size, network.encoder.grid((4, 16, 16))) == ((1, 4, 4), (4, 4, 4))
    assert {"image", "mixer", "norm"} == {key.split(".")[0] for key in network.encoder.state_dict()}
    loss = output.projection.square().sum() + output.field.square().sum()
    (loss + network.probe(output.embedding.detach()).square().sum()).backward()
    without = [name for name, p in network.named_parameters() if p.grad is None]
    assert without == []
    again = network.untrained(3)(torch.randn(2, 4, 3, 16, 16))
    assert again.field is not None


def test_images_and_class_tokens_are_refused():
    with pytest.raises(ValueError, match=r"`clips` must be \(B, T, 3, H, W\)"):
        encoder()(torch.randn(2, 3, 16, 16))
    with pytest.raises(ValueError, match="`pooling` must be attention or mean"):
        encoder(pooling="cls")
