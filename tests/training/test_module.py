"""A training step: what it computes, what it leaves out, and on how many ranks."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from sklearn.datasets import load_sample_images

from levyjepa.data import Images, Source, train_loader
from levyjepa.objectives import LevyRegularizer
from levyjepa.training import compose
from levyjepa.training.module import LevyJEPA, schedule
from levyjepa.training.objective import build_objective, laws_of
from levyjepa.training.trainer import Loaders


def step(config, source, module: LevyJEPA | None = None) -> tuple[LevyJEPA, Trainer]:
    """One optimizer step on one batch."""
    torch.manual_seed(0)
    module = module or LevyJEPA(config, source.classes, source.mean, source.std)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=config.trainer.max_epochs,
        max_steps=1,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(module, datamodule=Loaders(config, source, 0))
    return module, trainer


@pytest.mark.parametrize(("name", "rate"), [("exp1", 2.0), ("exp2", 1.0)])
def test_the_original_experiments_take_a_step_with_the_full_network(name, rate):
    config = compose([f"experiment={name}", "data.batch_size=1", "data.workers=0"])
    photos = Images(load_sample_images().images, [0, 1])
    source = Source("photos", photos, None, ("china", "flower"), (0.5,) * 3, (0.25,) * 3)
    module, trainer = step(config, source)
    assert sum(p.numel() for p in module.network.encoder.vit.parameters()) > 21e6
    got = {key: float(value) for key, value in trainer.callback_metrics.items()}
    weighted = got["train/levy"] + 0.02 * got["train/sigreg"]
    weighted += config.objective.kappa * 0.98 * got["train/inv"]
    assert got["train/lejepa_loss"] == pytest.approx(weighted, rel=1e-5)
    field, turn = torch.randn(2, 16, 16, 16), torch.eye(16)
    ours, original = build_objective(config).levy, LevyRegularizer.reference(rate=rate)
    assert ours is not None
    torch.testing.assert_close(ours(field, rotation=turn), original(field, rotation=turn))


def test_without_the_prior_nothing_of_it_is_computed(small, digits):
    config = small("objective.gamma=0")
    module = LevyJEPA(config, digits.classes, digits.mean, digits.std)

    def never(*args):
        raise AssertionError("the patch projection ran")

    module.network.patch_projection.forward = never
    _, trainer = step(config, digits, module)
    assert module.objective.levy is None
    assert "train/levy" not in trainer.callback_metrics
    module = LevyJEPA(small(), digits.classes, digits.mean, digits.std)
    module.network.patch_projection.forward = never
    with pytest.raises(AssertionError, match="the patch projection ran"):
        step(small(), digits, module)


def test_views_of_several_sizes_take_a_step(small, digits):
    config = small("views.groups=[{count:2},{count:3,size:20,scale:[0.1,0.4]}]")
    _, trainer = step(config, digits)
    assert trainer.callback_metrics["train/levy"].isfinite()
    assert trainer.callback_metrics["train/inv"] > 0


def test_without_labels_there_is_no_probe(small, unlabelled):
    module, trainer = step(small(), unlabelled)
    assert module.network.probe is None
    assert "train/probe_loss" not in trainer.callback_metrics


def test_the_probe_teaches_the_network_nothing(small, digits):
    config = small("objective.gamma=0", "objective.kappa=0", "objective.lamb=0")
    module, _ = step(config, digits)
    assert all(p.grad is None or not p.grad.any() for p in module.network.encoder.parameters())
    assert module.network.probe is not None
    assert all(p.grad is not None and p.grad.any() for p in module.network.probe.parameters())


def test_two_groups_share_one_schedule(small, digits):
    config = small("optimizer.lr=2e-3", "data.batch_size=64", "trainer.max_epochs=4")
    module, trainer = step(config, digits)
    network, probe = trainer.optimizers[0].param_groups
    assert network["initial_lr"] == pytest.approx(2e-3 * 0.5)
    assert probe["initial_lr"] == pytest.approx(1e-3 * 0.5)
    assert (network["weight_decay"], probe["weight_decay"]) == (5e-2, 1e-7)
    assert {id(p) for p in probe["params"]} == {id(p) for p in module.network.probe.parameters()}


def test_a_learned_law_trains_with_the_network_and_is_not_decayed(small, digits):
    module, trainer = step(small("objective.learnable=true", "optimizer.lr=1e-2"), digits)
    _, law, _ = trainer.optimizers[0].param_groups
    assert law["weight_decay"] == 0
    assert {id(p) for p in law["params"]} == {id(p) for p in module.objective.levy.parameters()}
    assert all(p.grad is not None and p.grad.any() for p in law["params"])
    initial = laws_of(build_objective(module.config), module.config)
    assert list(initial) == list(module.laws) == ["box(2)", "diamond()"]
    for (_, learned), (_, law) in zip(module.laws.values(), initial.values(), strict=True):
        assert learned.exponent(torch.ones(())) != law.exponent(torch.ones(()))


def test_the_schedule_warms_up_then_falls_to_its_floor():
    factors = [schedule(n, warmup=10, steps=100, floor=0.25) for n in range(101)]
    assert factors[0] == 0.01
    assert max(factors) == factors[10] == 1.0
    assert factors[55] == pytest.approx(0.625)
    assert factors[100] == pytest.approx(0.25)
    assert schedule(0, warmup=0, steps=0, floor=0.5) == 1.0


def test_two_ranks_give_the_loss_and_gradients_of_one_with_the_joint_batch(tmp_path):
    script = Path(__file__).with_name("ranks.py")
    done = subprocess.run(
        [sys.executable, script, tmp_path], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    joint, first, second = (torch.load(tmp_path / f"{n}.pt") for n in ("1-0", "2-0", "2-1"))
    for name in ("train/sigreg", "train/inv", "train/levy"):
        assert first["loss"][name] == pytest.approx(second["loss"][name])
    assert first["loss"]["train/probe_loss"] != pytest.approx(second["loss"]["train/probe_loss"])
    for name, value in joint["loss"].items():
        mean = (first["loss"][name] + second["loss"][name]) / 2
        assert mean == pytest.approx(value, rel=1e-4), name
    assert any(name.startswith("network.encoder") for name in joint["grads"])
    for name, grad in joint["grads"].items():
        scale = grad.abs().max().item()
        torch.testing.assert_close(
            first["grads"][name], grad, rtol=1e-3, atol=1e-4 * scale + 1e-7, msg=name
        )


def test_the_loader_of_the_second_rank_holds_other_images(small, digits):
    config = small()
    batches = [
        next(iter(train_loader(digits, config.data, config.views, 0, rank, 2))) for rank in (0, 1)
    ]
    assert not torch.equal(batches[0].views[0], batches[1].views[0])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.image_size=30"], "`image_size` must be a multiple of the patch size"),
        (["data.image_size=8"], "must give a grid of at least 3 x 3 patches"),
        (["views.groups=[{size:10}]"], r"`views.groups\[0\].size` must be a multiple"),
    ],
)
def test_sizes_that_do_not_fit_are_named(words, message, small, digits):
    with pytest.raises(ValueError, match=message):
        LevyJEPA(small(*words), digits.classes, digits.mean, digits.std)
    if "8" in words[0]:
        LevyJEPA(small(*words, "objective.gamma=0"), digits.classes, digits.mean, digits.std)
