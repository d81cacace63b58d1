"""Training on clips: the prior's kinds, missing frames, a whole run and its checkpoint."""

import math

import pytest
import torch

from levyjepa.data import Batch, open_source
from levyjepa.objectives import VideoRegularizer
from levyjepa.training import compose, load, train
from levyjepa.training.module import LevyJEPA
from levyjepa.training.objective import build_objective, laws_of, valid_tokens

QUICK = (
    "data=moving_digits",
    "data.limit=24",
    "data.batch_size=8",
    "data.workers=0",
    "data.frames=4",
    "model.overrides.embed_dim=16",
    "model.overrides.depth=1",
    "model.overrides.num_heads=1",
    "model.embedding_dim=16",
    "trainer.accelerator=cpu",
    "trainer.progress=false",
    "trainer.max_epochs=1",
)


def quick(*more: str):
    return compose([*QUICK, *more])


def test_each_kind_of_increments_has_its_law_and_its_weight():
    config = quick(
        "objective.time.law=Brownian(0.5)", "objective.time.weight=3", "objective.space.weight=0"
    )
    prior = build_objective(config).levy
    assert isinstance(prior, VideoRegularizer)
    assert prior.weights == {"spacetime": 1.0, "time": 3.0}
    tested = laws_of(build_objective(config), config)
    assert list(tested) == ["spacetime", "time"]
    assert tested["time"][1].variance() == pytest.approx(0.25)
    assert tested["spacetime"][1].variance() == pytest.approx(0.25**2 + 0.3 * 2.0)
    whole = laws_of(build_objective(quick()), quick())
    assert list(whole) == ["spacetime", "space box(2)", "space diamond()", "time"]
    assert [stencil.ndim for stencil, _ in whole.values()] == [3, 3, 3, 3]


def test_tokens_that_show_a_repeated_frame_are_missing():
    valid = torch.tensor([[[True, True, True, False], [True] * 4]])  # one view of two clips
    tokens = valid_tokens(valid, torch.zeros(2, 2, 3, 3, 5))
    assert tokens.shape == (2, 2, 3, 3)
    assert tokens[:, :, 0, 0].tolist() == [[True, False], [True, True]]
    assert (tokens == tokens[:, :, :1, :1]).all()


def test_what_frames_beyond_the_end_hold_changes_nothing_of_the_prior(monkeypatch):
    config = quick("model.mixer_depth=0", "objective.kappa=0", "objective.lamb=0")
    source = open_source(config.data)
    views = torch.randint(0, 256, (2, 4, 4, 3, 48, 48), dtype=torch.uint8)
    other = views.clone()
    other[:, :, 3] = 255 - other[:, :, 3]
    valid = torch.ones(2, 4, 4, dtype=torch.bool)
    valid[:, :, 3] = False

    def prior(views: torch.Tensor, valid: tuple[torch.Tensor, ...]) -> float:
        torch.manual_seed(0)
        module = LevyJEPA(config, source.classes, source.mean, source.std).eval()
        logged = {}
        monkeypatch.setattr(module, "log", lambda name, value, **_: logged.update({name: value}))
        monkeypatch.setattr(module, "optimizers", lambda: torch.optim.SGD(module.parameters(), 1.0))
        monkeypatch.setattr(module, "_check_finite", lambda terms: None)
        monkeypatch.setattr(LevyJEPA, "global_step", 0)
        monkeypatch.setattr(LevyJEPA, "global_rank", 0)
        module.training_step(Batch((views,), torch.zeros(4, dtype=torch.int64), (), valid), 0)
        kinds = sum(logged[f"train/levy_{kind}"].item() for kind in ("space", "time", "spacetime"))
        assert kinds == pytest.approx(logged["train/levy"].item(), rel=1e-5)
        return logged["train/levy"].item()

    assert prior(views, (valid,)) == pytest.approx(prior(other, (valid,)), rel=1e-5)
    assert prior(views, ()) != pytest.approx(prior(other, ()), rel=1e-3)


def test_a_run_on_clips_is_trained_evaluated_and_loaded_again(tmp_path):
    config = quick(f"run_dir={tmp_path / 'run'}")
    run = train(config)
    assert not run.evaluation.failures
    for subject in ("trained", "untrained", "pixels"):
        scores = {s.key: s.value for s in run.scores if s.subject == subject}
        assert 0 <= scores["linear_probe/accuracy"] <= 1
        assert any(key.startswith("clips/") for key in scores)
    assert all(math.isfinite(score.value) for score in run.scores)
    tokens = load(tmp_path / "run").network(torch.randn(2, 6, 3, 48, 48)).field
    assert tokens.shape == (2, 6, 6, 6, 16)
    assert train(config).existed


def test_a_short_video_among_others_trains(tmp_path, shared_data):
    for name in ("bikes", "carphone_pristine"):
        (tmp_path / f"{name}.mp4").symlink_to(shared_data / "video" / f"{name}.mp4")
    config = quick(
        "data=videofolder",
        f"data.path={tmp_path}",
        "data.image_size=48",
        "data.frames=130",  # carphone has 120
        "data.stride=1",
        "data.batch_size=1",
        "views.groups=[{count: 2, frames: 6}]",
        "model.patch_size=16",
        "data.limit=null",
        "trainer.evaluate=false",
        f"run_dir={tmp_path / 'run'}",
    )
    assert train(config).folder.last_checkpoint.is_file()


def test_a_video_vit_of_transformers_trains(tmp_path):
    pytest.importorskip("transformers")
    config = quick(
        "model.name=videomae",
        "model.patch_size=8",
        "model.overrides={hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2}",
        "trainer.evaluate=false",
        "trainer.max_steps=1",
        f"run_dir={tmp_path / 'run'}",
    )
    train(config)
    tokens = load(tmp_path / "run").network(torch.randn(1, 4, 3, 48, 48)).field
    assert tokens.shape == (1, 2, 6, 6, 16)
