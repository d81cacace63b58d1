"""Shots of a video begin where its pictures jump, and nowhere else."""

import csv
import json
import weakref
from collections.abc import Callable, Iterator
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from sklearn.datasets import load_sample_images

from levyjepa.data.video import Frame, UnreadableVideoError, read_frames
from levyjepa.events import (
    STATED,
    FilmLaw,
    analyze_video,
    colors,
    embed_by,
    find_events,
    write_events,
)
from levyjepa.events.colors import brightness, small
from levyjepa.events.detect import _straight
from levyjepa.events.film_law import DIM

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


def test_cuts_of_a_film_with_frames_that_are_never_shown_are_found(shared_data):
    path = shared_data / "field" / "01_vp8_altref" / "vp8_altref.webm"
    assert [event.frame for event in find_events(read_frames(path)).events] == [40, 80, 120]


def test_cuts_between_three_flat_colors_with_a_counter_are_found():
    images = []
    for number in range(30):
        image = Image.new(
            "RGB", (160, 90), [(200, 40, 40), (40, 160, 60), (50, 60, 200)][number // 10]
        )
        ImageDraw.Draw(image).text((5, 5), str(number), fill="white")
        images.append(np.asarray(image))
    assert starts(np.stack(images)) == [10, 20]


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
    (found,) = starts(images)
    assert 40 - length <= found <= 40


def test_a_fade_to_black_and_back_is_one_event_within_its_frames():
    light = np.concatenate([np.ones(30), np.linspace(1, 0, 9)])[:, None, None, None]
    before, after = shot(0, 39) * light, shot(2, 39) * light[::-1]
    black = np.zeros((4, HEIGHT, WIDTH, 3))
    (found,) = starts(np.concatenate([before, black, after]).astype(np.uint8))
    assert 30 <= found <= 52


def slow_pan(n: int, rng: np.random.Generator) -> np.ndarray:
    """Across at 1 % of the width a frame."""
    across = rng.choice([-1, 1]) * (np.arange(n) * 0.01 - 0.3)
    return np.stack([rng.normal(0, 0.005, n), across], 1)


def shake(n: int, rng: np.random.Generator) -> np.ndarray:
    return rng.normal(0, rng.uniform(0.01, 0.08), (n, 2))


@pytest.mark.parametrize("path", [slow_pan, shake])
def test_a_camera_that_moves_makes_no_event_and_hides_no_cut(
    path: Callable[[int, np.random.Generator], np.ndarray],
):
    for seed in range(4):
        assert starts(window(seed, path(60, np.random.default_rng(seed)))) == [], seed
    rng = np.random.default_rng(0)
    images = np.concatenate([window(n, path(40, rng)) for n in (0, 2, 1, 3)])
    assert starts(images) == [40, 80, 120]


@pytest.mark.parametrize("length", [1, 2, 5, 40])
def test_a_video_in_which_nothing_changes_is_one_shot(length):
    for image in (PHOTOGRAPHS[0], np.zeros_like(PHOTOGRAPHS[0])):
        found = find_events(frames(np.repeat(image[None], length, 0)))
        assert found.events == []
        (only,) = found.shots
        assert (only.start, only.end, only.start_time) == (0, length, 0)
        assert only.end_time == pytest.approx(length / 25)


def test_two_unlike_frames_do_not_fail():
    found = find_events(frames(np.stack([PHOTOGRAPHS[0], PHOTOGRAPHS[2]])))
    assert found.shots[0].start == 0
    assert found.shots[-1].end == 2


def test_frames_may_change_their_size():
    images = [*shot(0), *shot(0)[:, ::3, ::2], *shot(2)[:, ::2, ::3]]
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


def test_a_file_that_is_cut_short_or_has_only_sound_is_named(tmp_path, write_film, write_sound):
    whole = write_film(tmp_path / "whole.mp4", shot(0)).read_bytes()
    short = tmp_path / "short.mp4"
    short.write_bytes(whole[: len(whole) // 2])
    for path in (short, write_sound(tmp_path / "sound.mp4")):
        with pytest.raises(UnreadableVideoError, match=path.name):
            find_events(read_frames(path))


def test_what_can_not_be_analyzed_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`frames` must hold a frame"):
        find_events(iter(()))
    with pytest.raises(ValueError, match="`embed` must give finite"):
        find_events(frames(shot(0)), lambda images: np.full((len(images), 3), np.nan))
    with pytest.raises(ValueError, match="`false_alarms_per_hour` must be positive"):
        find_events(frames(shot(0)), false_alarms_per_hour=0)
    Image.fromarray(PHOTOGRAPHS[0]).save(tmp_path / "one.png")
    with pytest.raises(ValueError, match="at least 2 frames"):
        analyze_video(tmp_path, tmp_path / "out")


def test_a_long_stream_takes_bounded_memory_and_gives_its_cuts():
    alive = most = 0
    pictures = [np.asarray(Image.fromarray(p).resize((32, 32))) for p in PHOTOGRAPHS]

    def stream() -> Iterator[Frame]:
        nonlocal alive, most

        def forget() -> None:
            nonlocal alive
            alive -= 1

        for index in range(2500):
            image = pictures[index // 97 % 4].copy()
            weakref.finalize(image, forget)
            alive += 1
            most = max(most, alive)
            yield Frame(index, index / 25, 1 / 25, image)

    found = find_events(stream())
    assert most <= 200
    assert [event.frame for event in found.events] == list(range(97, 2500, 97))
    assert len(found.curve) <= 2048
    assert len(found.curve) * found.stretch >= 2500


@pytest.mark.parametrize("volume", [1.0, 4.0])
def test_false_alarms_under_the_law_are_at_most_those_allowed(volume):
    """A Bayes factor of c or more without a jump is at most as frequent as 1 in c."""
    generator = torch.Generator().manual_seed(0)
    smooth = STATED.laws[0].sample((200_000,), volume, DIM, generator, torch.float64)  # pyright: ignore
    _, factor = FilmLaw().jumps(smooth.norm(dim=1).numpy(), np.full(200_000, volume))
    for c in (0.3, 1, 3):
        assert (factor >= c).mean() <= 1 / c
    jumps = STATED.laws[1].jumps.sigma * torch.randn(2000, DIM, generator=generator)  # pyright: ignore
    _, factor = FilmLaw().jumps((smooth[:2000] + jumps).norm(dim=1).numpy(), np.full(2000, volume))
    assert (factor >= 4 * 90_000).mean() > 0.7  # most jumps are found at one false alarm an hour


def test_more_false_alarms_allow_more_events():
    path = np.zeros((60, 2))
    path[30:] = 0.1  # of the window's sides: a sudden move, no cut
    images = window(1, path)
    counts = [len(find_events(frames(images), false_alarms_per_hour=n).events) for n in (1, 1e5)]
    assert counts == [0, 1]


def test_the_law_moves_from_the_stated_one_to_that_of_the_film():
    generator = torch.Generator().manual_seed(1)
    law = FilmLaw()
    law.learn(np.full(10, 0.3))
    assert law.law is STATED
    increments = STATED.sample((2000,), 4.0, DIM, generator, torch.float64)
    law.learn(increments.norm(dim=1).numpy())
    fitted, stated = (float(part.laws[0].sigma) for part in (law.law, STATED))  # pyright: ignore
    assert 1.7 * stated < fitted < 2.1 * stated  # the film's is twice the stated one


def test_descriptors_are_the_roots_of_the_shares_of_colors():
    half = np.zeros((1, 4, 4, 3), np.uint8)
    half[:, :2] = 255
    np.testing.assert_allclose(np.sort(colors(half)[0])[-3:], [0, 0.5**0.5, 0.5**0.5], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(colors(np.stack(PHOTOGRAPHS)), axis=1), 1, 1e-5)


def test_a_small_picture_has_the_means_of_its_cells():
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    means = image.reshape(32, 2, 32, 3, 3).mean((1, 3))
    np.testing.assert_allclose(small(image), means, atol=1)
    cells = means.reshape(16, 2, 16, 2, 3).mean((1, 3)) @ (0.299, 0.587, 0.114)
    np.testing.assert_allclose(brightness(small(image)[None])[0], cells.ravel(), atol=1)


def test_blends_are_straight_and_cuts_are_not():
    first, last = np.random.default_rng(0).normal(0, 50, (2, 256))
    weight = np.linspace(0, 1, 9)[:, None]
    assert _straight((1 - weight) * first + weight * last, 8)[0] == pytest.approx(1, abs=1e-3)
    assert _straight(np.stack([first] * 4 + [last] * 5), 8)[0] == 0
    assert _straight(np.stack([first] * 9), 8)[0] == 0


def test_an_encoder_finds_cuts():
    torch.manual_seed(0)
    layer = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 16)).eval()
    trained = SimpleNamespace(
        encoder=SimpleNamespace(patch_size=(8, 8), fixed_size=None),
        embed=lambda pixels: layer(pixels / 127.5 - 1).detach(),
    )
    images = np.stack([small(image) for n in (0, 2) for image in shot(n)])
    assert embed_by(trained)(images).shape == (60, 16)
    found = find_events(frames(images), embed_by(trained))
    assert 30 in [event.frame for event in found.events]


def test_files_say_what_was_found(tmp_path):
    found = find_events(frames(np.concatenate([shot(0), shot(2)])))
    write_events(found, tmp_path / "new" / "folder")
    content = json.loads((tmp_path / "new" / "folder" / "events.json").read_text("utf-8"))
    assert set(content) == {"shots", "events"}
    for one, (start, end) in zip(content["shots"], [(0, 30), (30, 60)], strict=True):
        expected = {"start": start, "end": end, "start_time": start / 25, "end_time": end / 25}
        assert one == pytest.approx(expected)
    (event,) = content["events"]
    assert set(event) == {"frame", "time", "probability"}
    assert event["frame"] == 30
    assert event["time"] == pytest.approx(1.2)
    assert 0.5 < event["probability"] <= 1
    with (tmp_path / "new" / "folder" / "shots.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [list(row) for row in rows] == [["start", "end", "start_time", "end_time"]] * 2
    assert [{k: float(v) for k, v in row.items()} for row in rows] == content["shots"]


def test_a_folder_of_pictures_is_a_video_of_the_given_rate(tmp_path):
    (tmp_path / "film").mkdir()
    for number, image in enumerate(np.concatenate([shot(0, 20), shot(2, 20)])):
        Image.fromarray(image).save(tmp_path / "film" / f"{number:03d}.png")
    seen = []

    def progress(frames, number):
        seen.append(number)
        return frames

    found = analyze_video(tmp_path / "film", tmp_path / "out", rate=10, progress=progress)
    assert [(event.frame, event.time) for event in found.events] == [(20, 2.0)]
    assert seen == [40]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"events.json", "shots.csv", "timeline.png"}
    assert Image.open(tmp_path / "out" / "timeline.png").width > 1000


def test_the_same_frames_give_the_same_events():
    images = np.concatenate([shot(0), shot(3)])
    first, second = find_events(frames(images)), find_events(frames(images))
    assert first == second
    np.testing.assert_array_equal(first.curve, second.curve)
