"""LeJEPA, MAE and I-JEPA of lightly: two lines more than its examples."""

import copy

import pytest
import torch
from torch import nn

pytest.importorskip("lightly", reason="needs pip install 'levyjepa[recipes]'")
pytest.importorskip("timm", reason="needs pip install 'levyjepa[recipes]'")

import timm
from lightly.data.ijepa_collate import IJEPAMaskCollator
from lightly.loss import LeJEPALoss
from lightly.models import utils
from lightly.models.modules import (
    IJEPAPredictorTIMM,
    LeJEPAProjectionHead,
    MaskedVisionTransformerDecoderTIMM,
    MaskedVisionTransformerTIMM,
)
from tests.recipes.pictures import photographs

import levyjepa

LAW = levyjepa.Brownian(0.25) + levyjepa.CompoundPoisson(0.3, levyjepa.LaplaceJumps(1.0))


def vit(**options):
    torch.manual_seed(0)
    small = {"img_size": 64, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 4}
    return timm.create_model("vit_tiny_patch16_224", num_classes=0, **(small | options))


def test_lejepa():
    backbone = vit(dynamic_img_size=True)
    head = LeJEPAProjectionHead(48, hidden_dim=64, output_dim=16)
    criterion = LeJEPALoss(sigreg_num_vectors=64)
    term = backbone.levy = levyjepa.LevyTerm(backbone, LAW)
    optimizer = torch.optim.AdamW([*backbone.parameters(), *head.parameters()], lr=1e-3)
    for step in range(3):
        global_views = [photographs(8, 64, seed=10 * step + n) for n in range(2)]
        local_views = [photographs(8, 32, seed=10 * step + n) for n in range(4)]
        global_proj = torch.stack([head(backbone(view)) for view in global_views])
        local_proj = torch.stack([head(backbone(view)) for view in local_views])
        assert len(term.tap.seen) == 6
        loss = criterion(local_proj=local_proj, global_proj=global_proj) + term()
        loss.backward()
        assert backbone.patch_embed.proj.weight.grad.abs().sum() > 0
        optimizer.step()
        optimizer.zero_grad()
        assert loss.isfinite()


class MAE(nn.Module):
    """The module of lightly's example, smaller."""

    def __init__(self):
        super().__init__()
        self.backbone = MaskedVisionTransformerTIMM(vit=vit())
        self.sequence_length = self.backbone.sequence_length
        self.embed = nn.Linear(48, 32)
        self.decoder = MaskedVisionTransformerDecoderTIMM(
            num_patches=64, embed_dim=32, depth=1, num_heads=4
        )
        self.predict = nn.Linear(32, 8 * 8 * 3)

    def forward_encoder(self, images, idx_keep=None):
        return self.backbone.encode(images=images, idx_keep=idx_keep)

    def forward_decoder(self, x_encoded, idx_keep, idx_mask):
        x_decode = self.embed(x_encoded)
        x_masked = utils.repeat_token(
            self.decoder.mask_token, (len(x_encoded), self.sequence_length)
        )
        x_masked = utils.set_at_index(x_masked, idx_keep, x_decode.type_as(x_masked))
        x_decoded = self.decoder.decode(x_masked)
        return self.predict(utils.get_at_index(x_decoded, idx_mask))


def test_mae():
    model = MAE()
    model.levy = levyjepa.LevyTerm(model.backbone, LAW)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step in range(3):
        images = photographs(seed=step)
        idx_keep, idx_mask = utils.random_token_mask((8, model.sequence_length), mask_ratio=0.5)
        x_encoded = model.forward_encoder(images=images, idx_keep=idx_keep)
        x_pred = model.forward_decoder(x_encoded, idx_keep, idx_mask)
        patches = utils.patchify(images, 8)
        target = utils.get_at_index(patches, idx_mask - 1)  # the class token comes first
        term = model.levy(keep=idx_keep[:, 1:] - 1)
        loss = nn.functional.mse_loss(x_pred, target) + term
        loss.backward()
        assert model.levy.projection.weight.grad.abs().sum() > 0
        optimizer.step()
        optimizer.zero_grad()
        assert term > 0


def test_ijepa():
    vit_without_class = vit(img_size=128, class_token=False, global_pool="")
    encoder = MaskedVisionTransformerTIMM(vit=vit_without_class)
    predictor = IJEPAPredictorTIMM(256, depth=1, mlp_dim=48, predictor_embed_dim=32, num_heads=4)
    target_encoder = copy.deepcopy(encoder)
    utils.deactivate_requires_grad(target_encoder)
    term = encoder.levy = levyjepa.LevyTerm(encoder, LAW)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *predictor.parameters()], lr=1e-3)
    scales = {"enc_mask_scale": (0.85, 1.0), "pred_mask_scale": (0.15, 0.2)}
    collator = IJEPAMaskCollator(input_size=(128, 128), patch_size=8, **scales)
    for step in range(3):
        images, masks_enc, masks_pred = collator(list(photographs(size=128, seed=step)))
        with torch.no_grad():
            target = target_encoder.encode(images)
            target = nn.functional.layer_norm(target, target.shape[-1:])
            target = utils.apply_masks(target, masks_pred)
            target = utils.repeat_interleave_batch(target, len(images), repeat=len(masks_enc))
        context = encoder.encode(images, idx_keep=masks_enc[0])
        prediction = predictor(context.clone(), masks_enc, masks_pred)
        loss = nn.functional.smooth_l1_loss(prediction, target) + term(keep=masks_enc[0])
        loss.backward()
        assert term.projection.weight.grad.abs().sum() > 0
        optimizer.step()
        optimizer.zero_grad()
        assert loss.isfinite()
