"""Total variation, the control for the Lévy prior."""

import pytest
import torch

from levyjepa.objectives import LeJEPA, TotalVariation


def test_total_variation_of_an_edge() -> None:
    field = torch.zeros(1, 4, 5, 9, dtype=torch.float64)
    field[:, :, 3:] = 2.0  # one column step of 2 in each of 9 channels, none along the other axis
    assert TotalVariation()(field).item() == pytest.approx(2.0 / 4)


def test_it_can_replace_the_prior() -> None:
    field = torch.randn(3, 5, 5, 4, requires_grad=True)
    loss = LeJEPA(TotalVariation(), gamma=0.5)(torch.randn(2, 8, 4), [field[:1], field[1:]])
    loss.total.backward()
    assert loss.levy is not None
    assert field.grad is not None
    assert field.grad.isfinite().all()
    whole = TotalVariation()(field)
    assert loss.levy.item() == pytest.approx(whole.item(), rel=1e-5)


def test_equal_tokens_have_a_finite_gradient() -> None:
    field = torch.zeros(1, 3, 3, 2, requires_grad=True)
    TotalVariation()(field).backward()
    assert field.grad is not None
    assert (field.grad == 0).all()


def test_masked_tokens_are_ignored() -> None:
    field = torch.randn(2, 5, 6, 4, dtype=torch.float64)
    mask = torch.ones(2, 5, 6, dtype=torch.bool)
    mask[:, 3:] = False
    padded = field.where(mask[..., None], torch.nan).requires_grad_()
    loss = TotalVariation()(padded, mask=mask)
    assert loss.item() == pytest.approx(TotalVariation()(field[:, :3]).item())
    (grad,) = torch.autograd.grad(loss, padded)
    assert (grad[:, 3:] == 0).all()
    assert grad.isfinite().all()
    mask[:] = False
    assert TotalVariation()(field, mask=mask) == 0
    with pytest.raises(ValueError, match=r"`mask` must be \(2, 5, 6\), got \(2, 5\)"):
        TotalVariation()(field, mask=mask[..., 0])


def test_a_field_without_a_grid_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"`field` must be \(B, \*grid, C\)"):
        TotalVariation()(torch.zeros(3, 2))
