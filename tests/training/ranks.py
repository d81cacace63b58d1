"""One training step on one rank and on two gloo ranks; run as a script, as spawn needs it."""

import sys
from pathlib import Path

import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from torch import nn

from levyjepa.data import Rows, Source, open_source
from levyjepa.training import compose
from levyjepa.training.module import LevyJEPA
from levyjepa.training.trainer import Loaders

BATCH = 12
SETTINGS = (
    "model.overrides.depth=1",
    "model.overrides.embed_dim=48",
    "model.drop_path=0",
    "model.projection_hidden=32",
    "model.patch_projection_hidden=32",
    "objective.lamb=0.5",
    "views.jitter=0",
    "views.blur=0",
)


class SaveGradients(Callback):
    """Save every rank's loss, and the gradients that the optimizer sees."""

    def __init__(self, out: Path) -> None:
        self.out = out

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        name = f"{trainer.world_size}-{trainer.global_rank}"
        grads = {n: p.grad for n, p in pl_module.named_parameters() if p.grad is not None}
        loss = {k: v.item() for k, v in trainer.callback_metrics.items()}
        torch.save({"grads": grads, "loss": loss}, self.out / f"{name}.pt")


def step(out: Path, source: Source, devices: int) -> None:
    config = compose([*SETTINGS, f"data.batch_size={BATCH // devices}"])
    seed_everything(0, verbose=False)
    module = LevyJEPA(config, source.classes, source.mean, source.std)
    for name, layer in list(module.network.projection.named_children()):
        if isinstance(layer, nn.BatchNorm1d):  # synchronized on GPUs only
            setattr(module.network.projection, name, nn.Identity())
    trainer = Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp_spawn" if devices > 1 else "auto",
        max_epochs=config.trainer.max_epochs,
        max_steps=1,
        limit_val_batches=0,
        callbacks=[SaveGradients(out)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(module, datamodule=Loaders(config, source, 0))


if __name__ == "__main__":
    torch.set_num_threads(1)
    whole = open_source(compose([]).data)
    few = Rows(whole.train, range(2 * BATCH))
    digits = Source("digits", few, whole.test, whole.classes, whole.mean, whole.std)
    for ranks in (1, 2):
        step(Path(sys.argv[1]), digits, ranks)
