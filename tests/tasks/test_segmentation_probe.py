"""The linear head on tokens: its optimum, its scores, its choices."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import jaccard_score
from sklearn.preprocessing import StandardScaler

from levyjepa.tasks.builtin.segmentation_task import (
    DECAYS,
    Dense,
    Segmentation,
    fit_head,
    pixel_counts,
    segmentation_probe,
)


def blobs(n: int, grid: tuple[int, int], pixels: int, seed: int, noise: float = 0.3) -> Dense:
    """Tokens that say the class of their patch, of `pixels` a side, plus noise."""
    draw = torch.Generator().manual_seed(seed)
    truth = torch.randint(3, (n, *grid), generator=draw)
    field = torch.nn.functional.one_hot(truth, 3) + noise * torch.randn(n, *grid, 3, generator=draw)
    return field, truth.repeat_interleave(pixels, 1).repeat_interleave(pixels, 2)


def test_scores_by_hand_and_a_class_that_never_occurs():
    confusion = torch.tensor([[3, 1, 0], [2, 2, 2], [0, 0, 0]])
    found = Segmentation(confusion, torch.empty(1, 2, 5), 0.1)
    assert found.pixels == [4, 6, 0]
    assert found.iou.tolist() == pytest.approx((3 / 6, 2 / 7, np.nan), nan_ok=True)
    assert found.miou == pytest.approx((1 / 2 + 2 / 7) / 2)
    assert found.pixel_accuracy == 0.5


def test_pixels_are_counted_in_their_patch_and_void_in_none():
    masks = torch.tensor([[[0, 0, 1, 1], [0, 2, -1, -1]]])
    assert pixel_counts(masks, (1, 2), 3).tolist() == [[[[3, 0, 1], [0, 2, 0]]]]
    assert pixel_counts(masks, (2, 1), 3).tolist() == [[[[2, 2, 0]], [[1, 0, 1]]]]


@pytest.mark.parametrize("decay", [1e-1, 1e-3])
def test_the_head_is_scikit_learns_where_a_patch_is_a_pixel(decay):
    split = blobs(20, (4, 4), 1, seed=0, noise=1.0)
    x, y = split[0].flatten(0, 2).numpy(), split[1].flatten().numpy()
    scaler = StandardScaler().fit(x)
    other = LogisticRegression(C=1 / (decay * len(y)), tol=1e-8, max_iter=1000)
    other.fit(scaler.transform(x), y)
    expected = other.decision_function(scaler.transform(x))
    head = fit_head(split, 3, decay)
    logits = (x @ head[0].numpy() + head[1].numpy()).astype(float)
    logits -= logits.mean(1, keepdims=True)
    np.testing.assert_allclose(logits, expected, atol=2e-3)
    start = fit_head(split, 3, 1.0)
    torch.testing.assert_close(fit_head(split, 3, decay, start)[0], head[0], atol=2e-3, rtol=0)


def test_the_head_reads_what_tokens_say_and_nothing_else():
    train, val = blobs(25, (4, 5), 3, seed=0), blobs(10, (4, 5), 3, seed=1)
    found = segmentation_probe(train, val, 3)
    assert found.prediction.shape == val[1].shape
    assert found.pixel_accuracy > 0.8  # a patch's rim takes its neighbours' logits in part
    expected = jaccard_score(val[1].flatten(), found.prediction.flatten(), average=None)
    np.testing.assert_allclose(found.iou.numpy(), expected, atol=1e-6)
    assert torch.equal(segmentation_probe(train, val, 3).prediction, found.prediction)
    shuffled = train[1].flatten()[
        torch.randperm(train[1].numel(), generator=torch.Generator().manual_seed(0))
    ]
    found = segmentation_probe((train[0], shuffled.view_as(train[1])), val, 3)
    assert found.pixel_accuracy < 0.5


def test_logits_are_upsampled_bilinearly():
    field = torch.tensor([[[[3.0], [-1.0]]]])
    train = (field.repeat(10, 1, 1, 1), torch.tensor([[[1, 0]]]).repeat(10, 1, 1))
    val = (field, torch.tensor([[[1] * 4 + [0] * 4]]))
    found = segmentation_probe(train, val, 2)
    assert torch.equal(found.prediction.long(), val[1])  # logits of 0 halfway between tokens


def test_void_changes_nothing_but_the_count():
    train, val = blobs(25, (4, 4), 2, seed=0), blobs(10, (4, 4), 2, seed=1)
    empty = torch.ones(3, 4, 4, 3) * 50
    found = segmentation_probe(train, val, 3)
    more = (torch.cat([val[0], empty]), torch.cat([val[1], torch.full((3, 8, 8), -1)]))
    assert torch.equal(segmentation_probe(train, more, 3).confusion, found.confusion)
    holed = train[1].clone()
    holed[:, :4] = -1
    one = fit_head((train[0], holed), 3, 1e-2)[0]
    torch.testing.assert_close(one, fit_head((train[0][:, 2:], train[1][:, 4:]), 3, 1e-2)[0])


def test_the_test_split_chooses_nothing():
    train = blobs(30, (3, 3), 2, seed=0, noise=2.0)
    found = {segmentation_probe(train, blobs(4, (3, 3), 2, seed=s), 3).decay for s in range(3)}
    assert len(found) == 1
    assert found < set(DECAYS)


GOOD = blobs(6, (2, 2), 2, seed=0)


@pytest.mark.parametrize(
    ("train", "val", "message"),
    [
        ((GOOD[0][:4], GOOD[1][:4]), GOOD, "at least five images, got 4"),
        (GOOD, (GOOD[0], GOOD[1] + 1), "`test` must have masks of 3 classes.* to 3"),
        (GOOD, (GOOD[0], GOOD[1] * 0 - 1), "`test` .* not void"),
        (GOOD, (GOOD[0] * torch.nan, GOOD[1]), "`test` must be finite"),
    ],
)
def test_bad_splits_are_named(train, val, message):
    with pytest.raises(ValueError, match=message):
        segmentation_probe(train, val, 3)
