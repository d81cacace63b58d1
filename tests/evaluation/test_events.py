"""A video's shots begin where its pictures jump, and nowhere else."""

import csv
import json
import weakref
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from sklearn.datasets import load_sample_images

from levyjepa.data.video import Frame, UnreadableVideoError, read_frames
from levyjepa.evaluation.events import (
    Events,
    JumpLaw,
    embed_by,
    find_events,
    histogram,
    write_events,
)
from levyjepa.evaluation.events.pictures import beyond_blend, beyond_shift, brightness, small
from levyjepa.models import Encoder, FrameEncoder

HEIGHT, WIDTH = 90, 160  # of a window, which moves over photographs of twice its size
BIKES = (0, 30, 76, 137, 187, 242, 250)


def photographs() -> list[np.ndarray]:
    """Four that look unlike each other, (180, 320, 3): halves of scikit-learn's two."""
    halves = []
    for image in load_sample_images().images:
        halves += [image[:, :320], image[:, 320:]]
    return [np.asarray(Image.fromarray(half).resize((320, 180))) for half in halves]


PHOTOGRAPHS = photographs()


def window(number: int, path: np.ndarray) -> np.ndarray:
    """(n, 90, 160, 3), of a photograph at (down, right) in window sides from its middle."""
    corners = np.round((path + 0.5) * (HEIGHT, WIDTH)).astype(int)
    corners = corners.clip(0, (HEIGHT, WIDTH))
    image = PHOTOGRAPHS[number]
    return np.stack([image[t : t + HEIGHT, s : s + WIDTH] for t, s in corners])


def shot(number: int, length: int = 30) -> np.ndarray:
    """A hand-held shot of a photograph."""
    rng = np.random.default_rng(number)
    return window(number, rng.normal(0, 0.004, (length, 2)).cumsum(0))


def frames(images: np.ndarray, rate: float = 25.0) -> Iterator[Frame]:
    for index, image in enumerate(images):
        yield Frame(index, index / rate, 1 / rate, image)


def starts(images: np.ndarray) -> list[int]:
    return [event.frame for event in find_events(frames(images)).events]


def test_the_five_cuts_of_a_film_are_found_at_their_frames(shared_data):
    found = find_events(read_frames(shared_data / "video" / "bikes.mp4", (32, 32)))
    assert [event.frame for event in found.events] == list(BIKES[1:-1])
    assert [(shot.start, shot.end) for shot in found.shots] == list(pairwise(BIKES))
    np.testing.assert_allclose(
        [event.time for event in found.events], np.array(BIKES[1:-1]) / 25, atol=1e-3
    )
    assert all(event.probability > 0.95 for event in found.events)


def test_a_film_of_one_shot_has_no_event(shared_data):
    found = find_events(read_frames(shared_data / "video" / "carphone_pristine.mp4", (32, 32)))
    assert found.events == []
    assert [(shot.start, shot.end) for shot in found.shots] == [(0, 120)]


def test_cuts_between_photographs_are_found_at_their_frames():
    lengths = [30, 9, 41, 25]  # as near to one another as 9 frames
    images = np.concatenate([shot(n, length) for n, length in enumerate(lengths)])
    assert starts(images) == [30, 39, 80]


@pytest.mark.parametrize("length", [1, 2])
@pytest.mark.parametrize("share", [0.7, 1.0])
def test_a_flash_is_no_event(length, share):
    images = shot(0, 60).astype(np.float32)
    images[30 : 30 + length] += share * (255 - images[30 : 30 + length])
    assert starts(images.astype(np.uint8)) == []


@pytest.mark.parametrize("length", [6, 10, 14])
def test_a_dissolve_is_one_event_within_its_frames(length):
    before, after = shot(0, 40), shot(2, 40)
    weight = (np.arange(1, length + 1) / (length + 1))[:, None, None, None]
    mixed = before[-length:] * (1 - weight) + after[:length] * weight
    images = np.concatenate([before[:-length], mixed.astype(np.uint8), after[length:]])
    found = starts(images)
    assert len(found) == 1
    assert 40 - length <= found[0] <= 40


def test_a_fade_to_black_and_back_is_one_event_where_the_next_picture_comes():
    light = np.concatenate([np.ones(30), np.linspace(1, 0, 9)])[:, None, None, None]
    before, after = shot(0, 39) * light, shot(2, 39) * light[::-1]
    black = np.zeros((4, HEIGHT, WIDTH, 3))
    found = starts(np.concatenate([before, black, after]).astype(np.uint8))
    assert len(found) == 1
    assert 38 <= found[0] <= 44


def pan(n: int, rng: np.random.Generator) -> np.ndarray:
    """Across at 3 to 14 % of the width a frame, from stop to stop."""
    way = (np.arange(n) - rng.integers(3, n // 2)) * rng.uniform(0.03, 0.14)
    return np.stack([rng.normal(0, 0.005, n), rng.choice([-1, 1]) * (way.clip(0, 1) - 0.5)], 1)


def shake(n: int, rng: np.random.Generator) -> np.ndarray:
    return rng.normal(0, rng.uniform(0.01, 0.08), (n, 2))


def jolt(n: int, rng: np.random.Generator) -> np.ndarray:
    """Still, but for sudden moves."""
    way = np.zeros((n, 2))
    for at in rng.integers(5, n - 3, 2):
        way[at:] += rng.normal(0, 0.08, 2)
    return way


@pytest.mark.parametrize("path", [pan, shake, jolt])
def test_a_camera_that_moves_over_a_photograph_makes_no_event(
    path: Callable[[int, np.random.Generator], np.ndarray],
):
    for seed in range(8):
        rng = np.random.default_rng(seed)
        images = window(seed % len(PHOTOGRAPHS), path(60, rng))
        assert starts(images) == [], seed


@pytest.mark.parametrize("path", [pan, shake, jolt])
def test_cuts_between_cameras_that_move_are_found(path):
    rng = np.random.default_rng(0)
    images = np.concatenate([window(n, path(40, rng)) for n in (0, 2, 1, 3)])
    assert starts(images) == [40, 80, 120]


@pytest.mark.parametrize("length", [1, 2, 40])
def test_a_video_in_which_nothing_changes_is_one_shot(length):
    for image in (PHOTOGRAPHS[0], np.zeros_like(PHOTOGRAPHS[0])):
        found = find_events(frames(np.repeat(image[None], length, 0)))
        assert found.events == []
        only = found.shots[0]
        assert (only.start, only.end, only.start_time) == (0, length, 0)
        assert only.end_time == pytest.approx(length / 25)


def test_two_unlike_frames_do_not_fail():
    found = find_events(frames(np.stack([PHOTOGRAPHS[0], PHOTOGRAPHS[2]])))
    assert found.shots[0].start == 0
    assert found.shots[-1].end == 2


def test_frames_may_change_their_size():
    first, second = shot(0), shot(2)[:, ::2, ::3]
    images = [*shot(0)[:, :, :], *first[:, ::3, ::2], *second]
    found = find_events(Frame(n, n / 25, 1 / 25, image) for n, image in enumerate(images))
    assert [event.frame for event in found.events] == [60]


def test_times_are_those_of_a_variable_frame_rate(tmp_path, write_film):
    times = np.random.default_rng(0).integers(10, 90, 60).cumsum()
    times -= times[0]
    images = np.concatenate([shot(0), shot(2)])
    path = write_film(tmp_path / "x.mkv", images, times.tolist(), crf="18")
    (event,) = find_events(read_frames(path, (32, 32))).events
    assert event.frame == 30
    assert event.time == pytest.approx(times[30] / 1000, abs=1e-3)


def test_a_video_stored_sideways_has_its_cut(tmp_path, write_film):
    images = np.concatenate([shot(0), shot(2)])
    path = write_film(tmp_path / "phone.mp4", images, sideways=True, crf="18")
    assert next(read_frames(path)).image.shape == (WIDTH, HEIGHT, 3)
    assert [event.frame for event in find_events(read_frames(path)).events] == [30]


def test_a_file_that_is_cut_short_or_holds_only_sound_is_named(tmp_path, write_film, write_sound):
    whole = write_film(tmp_path / "whole.mp4", shot(0)).read_bytes()
    short = tmp_path / "short.mp4"
    short.write_bytes(whole[: len(whole) // 2])
    for path in (short, write_sound(tmp_path / "sound.mp4")):
        with pytest.raises(UnreadableVideoError, match=path.name):
            find_events(read_frames(path))


def test_no_frame_at_all_and_descriptors_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="`frames` must hold a frame"):
        find_events(iter(()))
    with pytest.raises(ValueError, match="`embed` must give finite"):
        find_events(frames(shot(0)), lambda images: np.full((len(images), 3), np.nan))


def test_a_long_stream_holds_a_bounded_number_of_frames_and_finds_its_cuts():
    alive = most = 0
    pictures = [np.asarray(Image.fromarray(p).resize((32, 32))) for p in PHOTOGRAPHS]

    def stream() -> Iterator[Frame]:
        nonlocal alive, most

        def gone() -> None:
            nonlocal alive
            alive -= 1

        for index in range(2500):
            image = pictures[index // 97 % 4].copy()
            weakref.finalize(image, gone)
            alive += 1
            most = max(most, alive)
            yield Frame(index, index / 25, 1 / 25, image)

    found = find_events(stream())
    assert most <= 200
    assert [event.frame for event in found.events] == list(range(97, 2500, 97))
    assert len(found.curve) <= 2048
    assert len(found.curve) * found.stretch >= 2500


def test_log_odds_are_those_of_two_normal_laws():
    """Of vectors in 3 dimensions, whose densities SciPy knows, and a rate of 2 %."""
    law = JumpLaw(dim=3, noise=0.01, jump=0.3, rate=0.02)
    x, motion = np.array([0.2, -0.4, 0.1]), 0.05

    def log_density(mean_square: float) -> float:
        return stats.multivariate_normal(cov=np.eye(3) * mean_square / 3).logpdf(x)

    expected = np.log(0.02 / 0.98) + log_density(0.36) - log_density(0.06)
    found = law.log_odds(np.array([np.linalg.norm(x)]), np.array([motion]))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_the_law_follows_the_jumps_of_its_video():
    law = JumpLaw(jump=0.5, rate=0.01, jumps_seen=8, frames_seen=800)
    law.learn(np.array([1.0, 2.0]), np.array([1.0, 0.5]), 200)
    assert law.jump == pytest.approx((8 * 0.5 + 1 + 0.5 * 4) / 9.5)
    assert law.rate == pytest.approx((8 + 1.5) / 1000)


def test_descriptors_are_the_roots_of_colours_shares():
    half = np.zeros((1, 4, 4, 3), np.uint8)
    half[:, :2] = 255
    vector = histogram(half)[0]
    np.testing.assert_allclose(np.sort(vector)[-3:], [0, np.sqrt(0.5), np.sqrt(0.5)], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(histogram(np.stack(PHOTOGRAPHS)), axis=1), 1, 1e-5)


def test_a_small_picture_holds_the_means_of_its_cells():
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    means = image.reshape(32, 2, 32, 3, 3).mean((1, 3))
    np.testing.assert_allclose(small(image), means, atol=1)


def test_what_shifts_leave_equals_the_correlations_of_overlaps():
    """Against numpy's, over all 17 x 17 shifts."""
    images = np.stack([small(photograph) for photograph in PHOTOGRAPHS[::2]])
    a, b = brightness(images).reshape(2, 32, 32).astype(np.float64)
    best = 0.0
    for down in range(-8, 9):
        for right in range(-8, 9):
            ours = b[max(down, 0) : 32 + min(down, 0), max(right, 0) : 32 + min(right, 0)]
            theirs = a[max(-down, 0) : 32 - max(down, 0), max(-right, 0) : 32 - max(right, 0)]
            best = max(best, float(np.corrcoef(ours.ravel(), theirs.ravel())[0, 1]))
    shifted, unshifted = beyond_shift(a.reshape(1, -1), b.reshape(1, -1))
    assert shifted[0] == pytest.approx(1 - best**2, abs=1e-2)
    zero = max(float(np.corrcoef(a.ravel(), b.ravel())[0, 1]), 0)
    assert unshifted[0] == pytest.approx(1 - zero**2, abs=1e-2)


def test_a_shift_explains_the_same_picture_elsewhere():
    wide = np.random.default_rng(0).normal(0, 50, (40, 40))
    first, second = wide[:32, :32], wide[5:37, 7:39]
    shifted, unshifted = beyond_shift(first.reshape(1, -1), second.reshape(1, -1))
    assert shifted[0] < 0.01 < 0.9 < unshifted[0]


def test_blends_leave_nothing_of_a_dissolve_and_half_a_change_of_a_cut():
    rng = np.random.default_rng(0)
    first, last = rng.normal(0, 1, (2, 1024))
    weight = np.array([0, 0.25, 0.5, 0.75, 1])[:, None]
    dissolve = (1 - weight) * first + weight * last
    cut = np.stack([first, first, first, last, last])
    ends = np.array([0]), np.array([4])
    assert beyond_blend(dissolve @ dissolve.T, *ends)[0] == pytest.approx(0, abs=1e-9)
    # the middle alone is no half of each: (1/2)^2, over three
    assert beyond_blend(cut @ cut.T, *ends)[0] == pytest.approx(0.25 / 3)


@pytest.mark.parametrize("kind", [Encoder, FrameEncoder])
def test_learned_features_find_cuts_too(kind):
    torch.manual_seed(0)
    encoder = kind(
        "vit_tiny_patch16_224", 32, 8, embedding_dim=32, embed_dim=24, depth=1, num_heads=2
    )
    images = np.concatenate([shot(n) for n in (0, 2)])
    images = np.stack([small(image) for image in images])
    embed = embed_by(encoder.eval(), [0.5] * 3, [0.25] * 3)
    features = embed(images)
    assert features.shape == (60, 32)
    one = embed(images[7:8])
    np.testing.assert_allclose(features[7:8], one, atol=1e-4)
    # an untrained network gives nearly one direction to all: learning would take their mean away
    found = find_events(frames(images), lambda batch: embed(batch) - features.mean(0))
    assert 30 in [event.frame for event in found.events]


def test_files_hold_what_was_found(tmp_path):
    found = find_events(frames(np.concatenate([shot(0), shot(2)])))
    write_events(found, tmp_path / "new" / "folder")
    held = json.loads((tmp_path / "new" / "folder" / "events.json").read_text("utf-8"))
    assert set(held) == {"shots", "events"}
    for one, (start, end) in zip(held["shots"], [(0, 30), (30, 60)], strict=True):
        expected = {"start": start, "end": end, "start_time": start / 25, "end_time": end / 25}
        assert one == pytest.approx(expected)
    (event,) = held["events"]
    assert set(event) == {"frame", "time", "probability"}
    assert event["frame"] == 30
    assert event["time"] == pytest.approx(1.2)
    assert 0.5 < event["probability"] <= 1
    with (tmp_path / "new" / "folder" / "shots.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [list(row) for row in rows] == [["start", "end", "start_time", "end_time"]] * 2
    assert [{k: float(v) for k, v in row.items()} for row in rows] == held["shots"]


def test_the_same_frames_give_the_same_events():
    images = np.concatenate([shot(0), shot(3)])
    first, second = find_events(frames(images)), find_events(frames(images))
    assert isinstance(first, Events)
    assert first == second
    np.testing.assert_array_equal(first.curve, second.curve)
