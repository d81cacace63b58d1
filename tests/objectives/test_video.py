"""The prior for video. Statistical tests: 5 sigma bands, fixed seeds."""

import pytest
import torch
from torch import Tensor

from levyjepa.ecf import equispaced
from levyjepa.lattice import box, diamond, increments, line, sample_sheet
from levyjepa.laws import Brownian, CompoundPoisson, LaplaceJumps, Law
from levyjepa.objectives import LeJEPA, LevyRegularizer, VideoRegularizer

LAW = Brownian(0.125) + CompoundPoisson(2.0, LaplaceJumps(1.0))
OTHER = Brownian(0.5)
EYE = torch.eye(4, dtype=torch.float64)
GRID = (5, 6, 7)
KINDS = ["spacetime", "space", "time"]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=generator(seed))


def moving_sums(law: Law, frames: int, clips: int, places: int = 8) -> Tensor:
    """Moving sums of independent samples over `frames` frames and 2 x 2 places.

    Increments of all kinds then follow the law, with a time step of 2 / frames. An increment in
    time is a difference of two sums of 4 samples, that is, of 8 samples.
    """
    size = (clips, 8 + frames - 1, places + 1, places + 1)
    samples = law.sample(size, 1 / (frames * 4), 4, generator(), torch.float64)
    return samples.unfold(1, frames, 1).unfold(2, 2, 1).unfold(3, 2, 1).sum((-3, -2, -1))


def test_the_loss_is_the_weighted_sum_of_three_priors() -> None:
    field = noise(3, *GRID, 4)
    weights = {"space": 0.5, "time": 3.0}
    video = VideoRegularizer(
        {"spacetime": LAW, "space": OTHER, "time": LAW}, time_step=0.25, weights=weights
    )
    turn = generator()
    frames = field.flatten(0, 1)
    spacetime = LevyRegularizer(LAW, (box(3, spacing=(0.25, 1, 1)),))(field, generator=turn)
    rotation = torch.linalg.qr(noise(4, 4))[0]
    frame = LevyRegularizer(OTHER, (box(2), diamond()), pool="batch", unbiased=False)
    lines = LevyRegularizer(LAW, (line(3, 0, spacing=(0.25, 1, 1)),))(field, rotation)
    terms = video.terms(field, generator=generator())
    assert list(terms) == KINDS
    share = (equispaced(LAW).weights.sum() / equispaced(LAW, volume=0.25).weights.sum()).item()
    assert terms["spacetime"].item() == pytest.approx(share * spacetime.item(), rel=1e-12)
    space = VideoRegularizer({"space": OTHER}, unbiased=False)  # all frames are one sample
    want = frame(frames[:5], rotation).item()
    assert space(field[:1], rotation).item() == pytest.approx(want, rel=1e-10)
    time = video.terms(field, rotation)["time"].item()
    assert time == pytest.approx(share * lines.item(), rel=1e-10)
    want = terms["spacetime"] + 0.5 * terms["space"] + 3 * terms["time"]
    assert video(field, generator=generator()).item() == pytest.approx(want.item(), rel=1e-12)
    assert video(field, generator=generator(1)) != want


def test_kinds_are_left_out_by_law_or_by_weight() -> None:
    field = noise(2, *GRID, 4)
    alone = VideoRegularizer({"time": LAW})
    assert list(alone.terms(field)) == ["time"]
    weighed = VideoRegularizer(LAW, weights={"spacetime": 0, "space": 0})
    assert alone(field, EYE) == weighed(field, EYE) == alone.terms(field, EYE)["time"]


@pytest.mark.parametrize("frames", [2, 4])
def test_increments_of_every_kind_follow_one_law_at_the_right_time_step(frames: int) -> None:
    """The mean characteristic function over clips is the law's: 5 sigma at 9 frequencies."""
    clips = moving_sums(LAW, frames, 400)
    time_step = 2 / frames
    for cells in (box(3, spacing=(time_step, 1, 1)), box(2).lifted, diamond().lifted, line(3, 0)):
        volume = time_step if cells == line(3, 0) else cells.volume
        u = torch.arange(1.0, 10.0, dtype=torch.float64)
        waves = (increments(clips, cells)[..., None] * u).cos().mean((1, 2))
        gap = (waves.mean(0) - LAW.characteristic_function(u, volume)).abs()
        assert (gap < 5 * waves.std(0) / 20).all()
    right = VideoRegularizer(LAW, time_step=time_step).terms(clips, generator=generator())
    wrong = VideoRegularizer(LAW, time_step=2 * time_step).terms(clips, generator=generator())
    assert wrong["time"] > 3 * right["time"]
    assert wrong["spacetime"] > 3 * right["spacetime"]
    assert wrong["space"] == right["space"]  # the time step does not apply within a frame


def test_a_sheet_of_space_and_time_scores_at_its_null_level() -> None:
    """The calibrated score of a sheet is standard normal. Gaussian noise scores far above."""
    term = VideoRegularizer({"spacetime": LAW}, calibrated=True)
    sheets = sample_sheet(LAW, box(3), GRID, 4, 400, generator(), torch.float64)
    assert term(sheets, EYE) < 5 / 400**0.5
    std = (LAW.variance() / 8) ** 0.5  # of a token, so that increments have the law's variance
    assert term(std * noise(400, *GRID, 4), EYE) > 10


T, Y, X = torch.meshgrid(*(torch.arange(n) for n in GRID), indexing="ij")


@pytest.mark.parametrize(
    ("step", "kinds"),
    [
        (X <= T, ["time"]),  # a straight front, which moves
        ((X <= T) & (Y < 3), ["spacetime", "space", "time"]),  # the end of one
        ((X < 3) & (Y < 3), ["space"]),  # a corner that stands still
        (T < 2, ["time"]),  # a cut between even frames
    ],
    ids=["front", "end", "corner", "cut"],
)
def test_which_kinds_detect_an_edge(step: Tensor, kinds: list[str]) -> None:
    sheet = sample_sheet(LAW, box(3), GRID, 4, 2, generator(), torch.float64)
    boxes = VideoRegularizer(LAW, stencils=(box(2),))
    bare, with_edge = (boxes.terms(f, EYE) for f in (sheet, sheet + 5.0 * step[..., None]))
    changed = [k for k in KINDS if with_edge[k].item() != pytest.approx(bare[k].item(), rel=1e-6)]
    assert changed == kinds


def test_padded_frames_are_ignored() -> None:
    video = VideoRegularizer(LAW)
    field = noise(2, 5, 9, 8, 4)
    mask = torch.ones(2, 5, 9, 8, dtype=torch.bool)
    mask[:, 3:] = False
    padded = field.where(mask[..., None], torch.nan).requires_grad_()
    loss = video(padded, EYE, mask=mask)
    assert loss.item() == pytest.approx(video(field[:, :3], EYE).item(), rel=1e-10)
    (grad,) = torch.autograd.grad(loss, padded)
    assert grad[:, :3].abs().sum() > 0
    assert (grad[:, 3:] == 0).all()
    mask[1] = True  # clips of different lengths, and a crop
    mask[1, :, 6:] = False
    want = (video(field[:1, :3], EYE) + video(field[1:, :, :6], EYE)) / 2
    assert video(field, EYE, mask=mask).item() == pytest.approx(want.item(), rel=1e-10)


def test_gradient() -> None:
    video = VideoRegularizer(LAW, quadrature=lambda law, v: equispaced(law, 4, v))
    field = noise(1, 3, 3, 3, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: video(x, EYE[:2, :2]), (field,))


def test_descent_brings_a_clip_to_the_law() -> None:
    field = torch.nn.Parameter(0.2 * noise(2, 6, 7, 7, 4).float())
    video, optimizer = VideoRegularizer(LAW), torch.optim.Adam([field], lr=0.05)
    start = video.terms(field, generator=generator())
    for step in range(200):
        optimizer.zero_grad()
        terms = video.terms(field, generator=generator(step))
        video.total(terms).backward()
        optimizer.step()
    assert all(terms[kind] < 0.05 * start[kind] for kind in KINDS)


def test_every_kind_learns_its_own_law() -> None:
    video = VideoRegularizer(LAW, learnable=True)
    video(noise(2, *GRID, 4)).backward()
    grads = [p.grad for prior in video.priors.values() for p in prior.parameters()]
    assert len(grads) == 3 * len(list(LevyRegularizer(LAW, learnable=True).parameters()))
    assert all(grad is not None and grad.abs() > 0 for grad in grads)


def test_the_total_loss_has_its_terms_and_masks() -> None:
    z, field = torch.randn(2, 8, 4), noise(4, *GRID, 4)
    video = VideoRegularizer(LAW, weights={"time": 0.1})
    loss = LeJEPA(video, gamma=0.5)(z, field, generator=generator())
    assert loss.levy is not None
    assert loss.kinds is not None
    assert list(loss.kinds) == KINDS
    assert video.total(loss.kinds) == loss.levy
    rest = 0.02 * loss.sigreg + 0.98 * loss.invariance
    assert loss.total.item() == pytest.approx((rest + 0.5 * loss.levy).item(), rel=1e-6)

    mask = torch.ones(4, *GRID, dtype=torch.bool)
    mask[:, 3:] = False
    objective = LeJEPA(VideoRegularizer({"time": Brownian(0.5)}))
    cut = objective(z, [field[:3, :3], field[3:, :3]], generator=generator())
    parts = [field[:3].where(mask[:3, ..., None], torch.nan), field[3:]]
    masked = objective(z, parts, generator=generator(), mask=[mask[:3], mask[3:]])
    assert masked.levy is not None
    assert cut.levy is not None
    assert masked.levy.item() == pytest.approx(cut.levy.item(), rel=1e-10)
    with pytest.raises(ValueError, match="`mask` must be one for each of 2 fields, got 1"):
        objective(z, parts, mask=mask)


def test_the_total_loss_of_an_image_prior_has_masks_and_no_kinds() -> None:
    field, mask = noise(3, 8, 7, 4), torch.ones(3, 8, 7, dtype=torch.bool)
    mask[:, :2] = False
    objective = LeJEPA(LevyRegularizer(LAW))
    z = torch.randn(2, 8, 4)
    masked = objective(z, field, generator=generator(), mask=mask)
    assert masked.kinds is None
    cut = objective(z, field[:, 2:], generator=generator())
    assert masked.levy is not None
    assert cut.levy is not None
    assert masked.levy.item() == pytest.approx(cut.levy.item(), rel=1e-10)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"law": {"tiem": LAW}}, ValueError, "`law` must have keys of spacetime, space, time"),
        ({"law": 1.0}, TypeError, "`law` must be a Law"),
        ({"law": "Brownish(1)"}, ValueError, "is not a law"),
        ({"law": {}}, ValueError, "must give at least one kind a law"),
        ({"weights": dict.fromkeys(KINDS, 0)}, ValueError, "must give at least one kind a law"),
        ({"weights": {"frames": 1.0}}, ValueError, "`weights` must have keys of"),
        ({"weights": (1, 1, 1)}, ValueError, "`weights` must have keys of"),
        ({"weights": {"time": -1.0}}, ValueError, "`weights` must be at least 0, got -1.0"),
        ({"time_step": 0.0}, ValueError, "`time_step` must be positive, got 0.0"),
        ({"stencils": (box(3),)}, ValueError, "`stencils` must be stencils with 2 axes"),
        ({"stencils": box(2)}, ValueError, "`stencils` must be stencils with 2 axes"),
    ],
    ids=str,
)
def test_errors_name_invalid_arguments(arguments, error, match) -> None:
    with pytest.raises(error, match=match):
        VideoRegularizer(**({"law": LAW} | arguments))


def test_errors_name_invalid_fields() -> None:
    video = VideoRegularizer(LAW)
    with pytest.raises(ValueError, match=r"`field` must be \(B, t, h, w, C\), got shape \(2, 5,"):
        video(torch.randn(2, 5, 6, 4))
    with pytest.raises(ValueError, match=r"grid of at least \(2, 2, 2\) .* got \(1, 6, 7\)"):
        video(torch.randn(2, 1, 6, 7, 4))  # one frame has no time
    with pytest.warns(UserWarning, match="leave no pair of whole cells"):
        video(torch.randn(2, *GRID, 4), mask=torch.zeros(2, *GRID, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"`mask` must be \(2, 5, 6, 7\), got \(2, 5\)"):
        video(torch.randn(2, *GRID, 4), mask=torch.ones(2, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match="`mask` must be None for a calibrated prior"):
        VideoRegularizer(LAW, calibrated=True)(
            torch.randn(2, *GRID, 4), mask=torch.ones(2, *GRID, dtype=torch.bool)
        )
