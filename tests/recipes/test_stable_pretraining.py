"""stable-pretraining's Manager, with its LeJEPA: one line more, a callback."""

import types

import pytest
import torch

pytest.importorskip("stable_pretraining", reason="needs pip install 'levyjepa[recipes]'")

import lightning
import stable_pretraining as spt
from stable_pretraining.methods.lejepa import LeJEPA
from tests.recipes.pictures import photographs

import levyjepa
from levyjepa.training import LevyCallback

LAW = levyjepa.Brownian(0.25) + levyjepa.CompoundPoisson(0.3, levyjepa.LaplaceJumps(1.0))


class Views(torch.utils.data.Dataset):
    """Two global and two local views of crops of photographs."""

    def __len__(self):
        return 16

    def __getitem__(self, index):
        seeds = range(4 * index, 4 * index + 4)
        sizes = {"global_0": 96, "global_1": 96, "local_0": 48, "local_1": 48}
        views = zip(sizes.items(), seeds, strict=True)
        return {name: {"image": photographs(1, size, seed)[0]} for (name, size), seed in views}


def lejepa_forward(self, batch, stage):
    views = {
        kind: [batch[f"{kind}_{n}"]["image"] for n in range(2)] for kind in ("global", "local")
    }
    output = LeJEPA.forward(self, global_views=views["global"], local_views=views["local"])
    return {"loss": output.loss, "embedding": output.embedding}


class Losses(lightning.Callback):
    """Keep what a step logged."""

    def __init__(self):
        self.levy = []

    def on_train_batch_end(self, trainer, *args):
        self.levy.append(float(trainer.callback_metrics["levy"]))


def test_manager(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    module = LeJEPA(encoder_name="vit_tiny_patch16_224", n_slices=32, drop_path_rate=0.0)
    module.forward = types.MethodType(lejepa_forward, module)
    module.optim = {"optimizer": {"type": "AdamW", "lr": 1e-3}, "scheduler": "ConstantLR"}
    losses = Losses()
    callback = LevyCallback(LAW, gamma=0.1)
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_steps=3,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        callbacks=[callback, losses],
    )
    loader = torch.utils.data.DataLoader(Views(), batch_size=4)
    before = module.backbone.patch_embed.proj.weight.detach().clone()
    spt.Manager(trainer=trainer, module=module, data=spt.data.DataModule(train=loader), seed=0)()
    assert len(losses.levy) == 3
    assert all(value > 0 for value in losses.levy)
    assert not torch.equal(before, module.backbone.patch_embed.proj.weight)
    weight = module.backbone.levy.projection.weight
    assert (weight @ weight.T - torch.eye(32)).abs().max() > 1e-4  # was trained
