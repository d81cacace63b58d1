"""A loop of plain PyTorch with timm."""

import pytest
import torch

pytest.importorskip("timm", reason="needs pip install 'levyjepa[recipes]'")

import timm
from tests.recipes.pictures import photographs

import levyjepa

LAW = levyjepa.Brownian(0.25) + levyjepa.CompoundPoisson(0.3, levyjepa.LaplaceJumps(1.0))
SMALL = {"img_size": 64, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 4}


def test_steps_lower_the_term():
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=2, **SMALL)
    model.levy = levyjepa.LevyTerm(model, LAW)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    images, labels = photographs(), torch.arange(8) % 2
    terms = []
    for _ in range(25):
        logits = model(images)
        term = model.levy()
        loss = torch.nn.functional.cross_entropy(logits, labels) + term
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        terms.append(term.item())
    assert sum(terms[-5:]) < 0.95 * sum(terms[:5])
    assert (model(images).argmax(1) == labels).all()
