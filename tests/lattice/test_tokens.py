"""Tokens of a model on their grid, all of them or those that a masked encoder kept."""

import math

import pytest
import torch

from levyjepa.lattice import scatter_tokens, tokens_to_grid


@pytest.mark.parametrize("prefix", [0, 1, 5])
@pytest.mark.parametrize("grid", [(6,), (2, 3), (4, 2, 3)])
def test_a_patch_is_at_its_place(grid, prefix):
    tokens = torch.randn(2, prefix + math.prod(grid), 4)
    field = tokens_to_grid(tokens, grid, prefix)
    assert field.shape == (2, *grid, 4)
    for place in ([0] * len(grid), [n - 1 for n in grid]):
        flat = 0
        for n, size in zip(place, grid, strict=True):
            flat = flat * size + n
        torch.testing.assert_close(field[(1, *place)], tokens[1, prefix + flat])


def test_a_square_needs_no_grid():
    assert tokens_to_grid(torch.zeros(2, 10, 3), prefix=1).shape == (2, 3, 3, 3)


@pytest.mark.parametrize(
    ("count", "options", "message"),
    [
        (197, {}, "197 tokens and prefix=0: with prefix=1 they are a 14 x 14 grid"),
        (261, {"prefix": 1}, "261 tokens and prefix=1: with prefix=5 they are a 16 x 16 grid"),
        (13, {"grid": (3, 4)}, "must fill a 3 x 4 grid, got 13 tokens .* with prefix=1 they do"),
        (10, {"grid": (3, 4)}, "2 are missing"),
        (9, {"grid": (3, 0)}, "`grid` must be one positive size or more"),
        (9, {"grid": ()}, "`grid` must be one positive size or more"),
        (9, {"prefix": 9}, "`prefix` must be below 9 tokens, got 9"),
        (9, {"prefix": -1}, "`prefix` must be at least 0"),
    ],
)
def test_tokens_that_fit_no_grid_are_refused(count, options, message):
    with pytest.raises(ValueError, match=message):
        tokens_to_grid(torch.zeros(2, count, 3), **options)


def test_a_field_is_no_sequence_of_tokens():
    with pytest.raises(ValueError, match=r"`tokens` must be \(B, N, C\)"):
        tokens_to_grid(torch.zeros(2, 3, 3, 4))


@pytest.mark.parametrize("prefix", [0, 2])
def test_kept_patches_go_back_to_their_places(prefix):
    full = torch.randn(2, 6, 4, dtype=torch.float64)
    keep = torch.tensor([[4, 0, 3], [1, 2, 5]])
    kept = full.gather(1, keep[..., None].expand(-1, -1, 4))
    tokens = torch.cat([torch.randn(2, prefix, 4), kept], 1).requires_grad_()
    field, mask = scatter_tokens(tokens, keep, (2, 3), prefix)
    want = torch.tensor([[1, 0, 0, 1, 1, 0], [0, 1, 1, 0, 0, 1]]).bool().unflatten(1, (2, 3))
    assert torch.equal(mask, want)
    torch.testing.assert_close(field[mask], full.unflatten(1, (2, 3))[mask])
    assert not field[~mask].any()
    field.square().sum().backward()
    torch.testing.assert_close(tokens.grad[:, prefix:], 2 * kept)


@pytest.mark.parametrize(
    ("keep", "error", "message"),
    [
        (torch.tensor([[0, 6]]), ValueError, "from 0 to 5 on a 2 x 3 grid, got 6"),
        (torch.tensor([[-1, 2]]), ValueError, "from 0 to 5 on a 2 x 3 grid, got -1"),
        (torch.tensor([[2, 2]]), ValueError, "must not name a place twice"),
        (torch.tensor([[0, 1, 2]]), ValueError, r"must be \(1, 2\), .* got \(1, 3\)"),
        (torch.tensor([[0.0, 1.0]]), TypeError, "must be a tensor of integers, got torch.float32"),
        (torch.tensor([[True, False]]), TypeError, "tensor of integers, got torch.bool"),
        ([[0, 1]], TypeError, "tensor of integers, got list"),
    ],
)
def test_wrong_places_are_refused(keep, error, message):
    with pytest.raises(error, match=message):
        scatter_tokens(torch.zeros(1, 2, 3), keep, (2, 3))
