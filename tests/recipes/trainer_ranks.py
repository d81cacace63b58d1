"""transformers' Trainer on two gloo processes; run as a script, as spawn needs it."""

import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp
import transformers

import levyjepa

LAW = levyjepa.Brownian(0.25) + levyjepa.CompoundPoisson(0.3, levyjepa.LaplaceJumps(1.0))
SMALL: dict[str, Any] = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


class LevyTrainer(transformers.Trainer):
    """A trainer whose loss has the term."""

    def compute_loss(self, model, inputs, *args, **kwargs):
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        return loss + self.model.levy()


def train(rank: int, folder: Path) -> None:
    """Save the projection after two steps."""
    torch.set_num_threads(1)
    ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= ranks | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": sys.argv[3]}
    torch.manual_seed(0)
    config = transformers.ViTConfig(**SMALL, image_size=64, patch_size=8)
    model = transformers.ViTForImageClassification(config)
    model.levy = levyjepa.LevyTerm(model, LAW)
    rows = [{"pixel_values": torch.randn(3, 64, 64), "labels": n % 2} for n in range(16)]
    arguments = transformers.TrainingArguments(
        output_dir=str(folder / "run"),
        per_device_train_batch_size=4,
        max_steps=2,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        ddp_backend="gloo",
        ddp_find_unused_parameters=False,
    )
    LevyTrainer(model=model, args=arguments, train_dataset=rows).train()
    torch.save(model.levy.projection.weight.detach(), folder / f"{rank}.pt")


if __name__ == "__main__":
    mp.spawn(train, (Path(sys.argv[2]),), 2)  # pyright: ignore
