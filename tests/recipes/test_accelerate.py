"""accelerate: two lines more than its example."""

import pytest
import torch

pytest.importorskip("accelerate", reason="needs pip install 'levyjepa[recipes]'")
pytest.importorskip("timm", reason="needs pip install 'levyjepa[recipes]'")

import accelerate
import timm
from tests.recipes.pictures import photographs

import levyjepa

LAW = levyjepa.Brownian(0.25) + levyjepa.CompoundPoisson(0.3, levyjepa.LaplaceJumps(1.0))
SMALL = {"img_size": 64, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 4}


@pytest.mark.parametrize("mixed_precision", ["no", "bf16"])
def test_accelerator(mixed_precision):
    accelerate.state.AcceleratorState._reset_state(True)
    torch.manual_seed(0)
    accelerator = accelerate.Accelerator(
        cpu=True, mixed_precision=mixed_precision, gradient_accumulation_steps=2
    )
    model = timm.create_model("vit_tiny_patch16_224", num_classes=2, **SMALL)
    term = model.levy = levyjepa.LevyTerm(model, LAW)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    data = torch.utils.data.TensorDataset(photographs(), torch.arange(8) % 2)
    loader = torch.utils.data.DataLoader(data, batch_size=2)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    before = term.projection.weight.detach().clone()
    for images, labels in loader:
        with accelerator.accumulate(model):
            loss = torch.nn.functional.cross_entropy(model(images), labels) + term()
            assert loss.dtype == torch.float32
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
    assert not torch.equal(term.projection.weight, before)
    accelerate.state.AcceleratorState._reset_state(True)
