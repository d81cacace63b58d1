"""The Trainer of transformers, with accumulation, gradient checkpointing and bfloat16."""

import pytest
import torch

pytest.importorskip("transformers", reason="needs pip install 'levyjepa[recipes]'")
pytest.importorskip("accelerate", reason="needs pip install 'levyjepa[recipes]'")

import transformers
from tests.recipes.pictures import photographs

import levyjepa

LAW = levyjepa.Brownian(0.25) + levyjepa.CompoundPoisson(0.3, levyjepa.LaplaceJumps(1.0))
SMALL = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


class LevyTrainer(transformers.Trainer):
    """A trainer whose loss has the term."""

    terms: list[float]

    def compute_loss(self, model, inputs, *args, **kwargs):
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        if not model.training:
            return loss
        term = self.model.levy()
        self.terms.append(term.item())
        return loss + term


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gradient_accumulation_steps": 2},
        {"gradient_checkpointing": True},
        {
            "gradient_checkpointing": True,
            "gradient_checkpointing_kwargs": {"use_reentrant": True},
        },
        {"bf16": True},
    ],
    ids=["plain", "accumulation", "checkpointing", "reentrant", "bfloat16"],
)
@pytest.mark.parametrize("layer", [None, 1])
def test_trainer(options, layer, tmp_path):
    torch.manual_seed(0)
    config = transformers.ViTConfig(**SMALL, image_size=64, patch_size=8)
    model = transformers.ViTForImageClassification(config)
    model.levy = levyjepa.LevyTerm(model, LAW, layer=layer)
    before = model.levy.projection.weight.detach().clone()
    rows = [
        {"pixel_values": image, "labels": n % 2} for n, image in enumerate(photographs(count=16))
    ]
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path),
        per_device_train_batch_size=4,
        max_steps=2,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        **options,
    )
    trainer = LevyTrainer(model=model, args=arguments, train_dataset=rows, eval_dataset=rows)
    trainer.terms = []
    trainer.train()
    assert len(trainer.terms) == 2 * options.get("gradient_accumulation_steps", 1)
    assert all(value > 0 for value in trainer.terms)
    assert not torch.equal(model.levy.projection.weight, before)
    trainer.evaluate()
    trainer.save_model()
    again = transformers.ViTForImageClassification.from_pretrained(tmp_path)
    again.levy = levyjepa.LevyTerm(again, LAW, layer=layer)
    assert again(rows[0]["pixel_values"][None]).logits.shape == (1, 2)
