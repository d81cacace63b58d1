"""Lightning: one line more, a callback."""

import pytest
import torch
from torch import nn

pytest.importorskip("lightning", reason="needs pip install 'levyjepa[recipes]'")
pytest.importorskip("timm", reason="needs pip install 'levyjepa[recipes]'")

import lightning
import timm
from tests.recipes.pictures import photographs

import levyjepa
from levyjepa.training import LevyCallback

LAW = levyjepa.Brownian(0.25) + levyjepa.CompoundPoisson(0.3, levyjepa.LaplaceJumps(1.0))
SMALL = {"img_size": 64, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 4}


class Module(lightning.LightningModule):
    """A classifier."""

    def __init__(self, manual=False, only_head=False):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = timm.create_model("vit_tiny_patch16_224", num_classes=2, **SMALL)
        self.automatic_optimization, self.only_head = not manual, only_head
        self.losses = []

    def loss(self, batch):
        images, labels = batch
        return nn.functional.cross_entropy(self.backbone(images), labels)

    def training_step(self, batch, index):
        loss = self.loss(batch)
        if self.automatic_optimization:
            return {"loss": loss}
        self.optimizers().zero_grad()
        self.manual_backward(loss)
        self.optimizers().step()

    def validation_step(self, batch, index):
        with torch.enable_grad():  # must not count
            self.log("val", self.loss(batch))

    def configure_optimizers(self):
        part = self.backbone.head if self.only_head else self
        return torch.optim.AdamW(part.parameters(), lr=1e-3)


def fit(module, gamma=1.0, **options):
    data = torch.utils.data.TensorDataset(photographs(), torch.arange(8) % 2)
    loader = torch.utils.data.DataLoader(data, batch_size=4)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    callback = LevyCallback(LAW, gamma=gamma)
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=2,
        callbacks=[callback],
        enable_model_summary=False,
        **(quiet | options),
    )
    torch.manual_seed(1)
    trainer.fit(module, loader, loader)
    return trainer


@pytest.mark.parametrize("manual", [False, True])
def test_the_callback_adds_the_term(manual):
    modules = {gamma: Module(manual) for gamma in (0.0, 10.0)}
    for gamma, module in modules.items():
        trainer = fit(module, gamma)
        assert trainer.callback_metrics["levy"] > 0
        assert "training_step" not in vars(module)
    without, term = (module.backbone.patch_embed.proj.weight for module in modules.values())
    assert not torch.equal(without, term)


def test_accumulation_and_bfloat16():
    trainer = fit(Module(), accumulate_grad_batches=2, precision="bf16-mixed")
    assert trainer.callback_metrics["levy"].dtype == torch.float32


def test_a_checkpoint_resumes(tmp_path):
    options = {"enable_checkpointing": True, "default_root_dir": tmp_path}
    trainer = fit(Module(), **options)
    path = tmp_path / "last.ckpt"
    trainer.save_checkpoint(path)
    assert "backbone.levy.projection.weight" in torch.load(path, weights_only=False)["state_dict"]
    data = torch.utils.data.TensorDataset(photographs(), torch.arange(8) % 2)
    loader = torch.utils.data.DataLoader(data, batch_size=4)
    again = lightning.Trainer(
        accelerator="cpu",
        max_epochs=3,
        callbacks=[LevyCallback(LAW)],
        logger=False,
        enable_progress_bar=False,
        default_root_dir=tmp_path,
    )
    again.fit(Module(), loader, ckpt_path=path)
    assert again.global_step == 6


def test_an_optimizer_without_the_projection_is_an_error():
    with pytest.raises(ValueError, match="`configure_optimizers` must pass all parameters of 'bac"):
        fit(Module(only_head=True))
    callback = LevyCallback(LAW, module_name="encoder")
    with pytest.raises(ValueError, match=r"`module_name` must be .* such as backbone"):
        callback.setup(lightning.Trainer(accelerator="cpu", logger=False), Module(), "fit")
