import pytest
import torch
from torch.nn.functional import normalize, one_hot

from levyjepa.laws import Brownian, CompoundPoisson, LaplaceJumps
from levyjepa.tasks.tracking import first_masks, is_cut, propagate, step_probability


def ids(*rows: str) -> torch.Tensor:
    """A mask, a digit for each pixel."""
    return torch.tensor([[int(c) for c in row] for row in rows], dtype=torch.uint8)


def scene(*masks: torch.Tensor) -> torch.Tensor:
    """(T, h, w, C): one direction for each id, and masks of the grid's size to follow."""
    return torch.stack([one_hot(mask.long(), 10).float() for mask in masks])


A = ids("110000", "110000", "000000", "000022")
B = ids("011000", "011000", "000022", "000000")
ABSENT = ids("001100", "001100", "000000", "000000")
NEW = ids("333110", "000110", "000220", "000000")


def dense(tokens, first, last, radius, top, temperature):
    """DINO's propagation as its equations say, with every pair of tokens."""
    frames, height, width = tokens.shape[:3]
    flat = normalize(tokens.flatten(1, 2), dim=-1)
    y, x = (
        axis.flatten()
        for axis in torch.meshgrid(*map(torch.arange, (height, width)), indexing="ij")
    )
    near = ((y[:, None] - y).abs() <= radius) & ((x[:, None] - x).abs() <= radius)
    labels, masks = [one_hot(first.long()).double().flatten(0, 1)], [first]
    for t in range(1, frames):
        context = [0, *range(max(1, t - last), t)]
        alike = torch.cat([(flat[t] @ flat[c].T / temperature).exp() * near for c in context], 1)
        alike = alike * (alike >= alike.topk(top, 1).values[:, -1:])
        found = alike / alike.sum(1, keepdim=True) @ torch.cat([labels[c] for c in context])
        labels.append(found)
        scaled = (found - found.min(0).values) / (found.max(0).values - found.min(0).values)
        masks.append(scaled.argmax(1).view(height, width).to(torch.uint8))
    return torch.stack(masks)


@pytest.mark.parametrize(("last", "radius", "top"), [(7, 12, 5), (2, 3, 5), (1, 1, 20)])
def test_tiles_agree_with_all_pairs(last, radius, top):
    random = torch.Generator().manual_seed(0)
    tokens = torch.randn(6, 11, 19, 6, generator=random).double()
    first = torch.randint(4, (11, 19), generator=random).to(torch.uint8)
    found = propagate(tokens, {0: first}, last=last, radius=radius, top=top, temperature=0.2)
    expected = dense(tokens, first, last, radius, top, 0.2)
    # single precision may break a near tie otherwise
    assert (found == expected).float().mean() > 0.999


def test_objects_are_followed_vanish_come_back_and_appear():
    masks = torch.stack([A, B, ABSENT, NEW, B, A])
    first = first_masks(masks)
    assert set(first) == {0, 3}
    assert set(first[3].unique().tolist()) == {0, 3}
    assert torch.equal(propagate(scene(*masks), first), masks)
    one_by_one = propagate(iter(scene(*masks)), first)
    assert torch.equal(one_by_one, masks)


def test_a_later_object_is_remembered_beyond_the_last_frames():
    masks = torch.stack([A, NEW, *[A] * 9, NEW])
    assert torch.equal(propagate(scene(*masks), first_masks(masks), last=2), masks)


def test_void_is_no_object():
    void = torch.where(A == 2, 255, A)
    assert torch.equal(propagate(scene(A), {0: void})[0], torch.where(A == 2, 0, A))
    assert torch.equal(first_masks(void[None])[0], torch.where(A == 2, 0, A))


def test_nothing_comes_from_beyond_the_radius():
    before, after = ids("10000000"), ids("00000010")
    assert torch.equal(propagate(scene(before, after), {0: before}, radius=6, top=1)[1], after)
    assert not propagate(scene(before, after), {0: before}, radius=5, top=1)[1].any()


def test_masks_are_finer_than_tokens():
    fine = A.repeat_interleave(8, 0).repeat_interleave(8, 1)
    found = propagate(scene(A, A), {0: fine})[1]
    assert found.shape == fine.shape
    assert (found == fine).float().mean() > 0.9


def test_nothing_is_propagated_across_a_cut():
    jump = torch.tensor([0, 0.9, 0.9, 0]).view(4, 1, 1).repeat(1, 4, 6)
    jump[1, 0, :3] = 0.4  # an eighth of the tokens did not jump: no cut
    assert is_cut(jump).tolist() == [False, False, True, False]
    found = propagate(scene(A, A, A, A), {0: A}, jump=jump)
    assert torch.equal(found[:2], torch.stack([A, A]))
    assert not found[2:].any()
    new = torch.where(A == 2, A, 0)
    found = propagate(scene(A, A, A, A), {0: A, 2: new}, jump=jump)
    assert torch.equal(found[2:], torch.stack([new, new]))


def test_a_jump_is_more_probable_than_drift():
    law = Brownian(sigma=0.1) + CompoundPoisson(rate=0.01, jumps=LaplaceJumps(alpha=0.5))
    steps = 0.1 * torch.randn(2, 6, 3, 4, 8, generator=torch.Generator().manual_seed(0))
    steps[0, 4, 1, 2] += 5
    found = step_probability(steps.cumsum(1), law)
    expected = torch.zeros(2, 6, 3, 4)
    expected[0, 4, 1, 2] = 1
    # a token's probability passes one half without a jump with a chance below 1e-6
    assert torch.equal((found > 0.5).float(), expected)
    assert torch.equal(step_probability(steps.cumsum(1)[0], law), found[0])
    assert not step_probability(steps[:, :1], law).any()


@pytest.mark.parametrize(
    ("masks", "options", "message"),
    [
        ({}, {}, "`masks` must hold a mask of the first frame, got none"),
        ({1: A}, {}, "`masks` must hold a mask of the first frame, got none"),
        ({0: A * 0}, {}, "`masks` must hold an object, got background alone"),
        ({0: A, 1: A[:2]}, {}, r"all of one size, got \(2, 6\) at frame 1"),
        ({0: A, 5: A}, {}, "`masks` must be of frames below 2, got frame 5"),
        ({0: A}, {"top": 0}, "`top` must be at least 1"),
        ({0: A}, {"temperature": 0}, "`temperature` must be positive"),
        ({0: A}, {"jump": torch.zeros(2, 3, 3)}, r"`jump` must be \(T, 4, 6\), T frames"),
        ({0: A}, {"jump": torch.zeros(1, 4, 6)}, r"`jump` must be \(T, 4, 6\), T frames"),
    ],
)
def test_bad_input_is_named(masks, options, message):
    with pytest.raises(ValueError, match=message):
        propagate(scene(A, B), masks, **options)


def test_masks_of_another_type_are_named():
    with pytest.raises(TypeError, match=r"`masks` must be uint8, got torch.int64"):
        propagate(scene(A), {0: A.long()})
