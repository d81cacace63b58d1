"""Films: which frames, steps of tokens, and marks of what truly jumps."""

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool3d

from levyjepa.data.digit_clips import DigitClip, DigitEvent, DigitIdentity
from levyjepa.data.settings import DataSettings
from levyjepa.data.source import Source
from levyjepa.data.video import MemoryVideo
from levyjepa.models import Encoder, Encoding
from levyjepa.tasks import Subject
from levyjepa.tasks.builtin.filmstrip import COLUMNS, make_film, relative_steps
from levyjepa.tasks.evaluation import evaluate

PATCH = 4


def square(corners, events=(), size=16) -> DigitClip:
    """A red square of 8 pixels on blue, its corner at each frame's place."""
    masks = torch.zeros(len(corners), size, size, dtype=torch.uint8)
    for frame, (y, x) in enumerate(corners):
        masks[frame, y : y + 8, x : x + 8] = 1
    frames = 255 * torch.stack([masks, torch.zeros_like(masks), 1 - masks], 1)
    positions = torch.tensor(corners)[:, None] + 4.0
    return DigitClip(frames, masks, positions, (DigitIdentity(3, 0),), tuple(events))


def means(clip: torch.Tensor, several: int = 1) -> torch.Tensor:
    """Mean colors of patches, (t, h, w, 3)."""
    pooled = avg_pool3d(clip.float().transpose(0, 1), (several, PATCH, PATCH))
    return pooled.movedim(0, -1)


JUMP = square([(0, 0)] * 3 + [(8, 8)] * 2, [DigitEvent(3, "teleport", 1, (12.0, 12.0))])


def test_steps_are_where_and_when_tokens_jump():
    steps = relative_steps(means(JUMP.frames)[None])[0]
    film = make_film(JUMP.frames, steps, JUMP)
    moved = film.steps > 0
    assert moved.any((1, 2)).tolist() == [False, False, False, True, False]
    expected = np.zeros((4, 4), bool)
    expected[:2, :2] = expected[2:, 2:] = True
    assert np.array_equal(moved[3], expected)
    assert film.steps.max() == 1
    (mark,) = film.marks or ()
    assert (mark.column, mark.arrives, mark.leaves) == (3, (12, 12), (4, 4))
    still = relative_steps(means(JUMP.frames[:3])[None])
    assert not still.any()  # nothing moves, and nothing is divided by 0


def test_jumps_between_frames_that_are_shown_stand_at_the_next():
    corners = [(0, 0)] * 35 + [(8, 8)] * 5
    events = DigitEvent(35, "appear", 1, (12.0, 12.0)), DigitEvent(39, "cut", 0, None)
    long = square(corners, events)
    film = make_film(long.frames, relative_steps(means(long.frames)[None])[0], long)
    assert len(film.frames) == COLUMNS
    column = int(np.searchsorted(np.linspace(0, 39, COLUMNS).round(), 35))
    assert film.steps.any((1, 2)).nonzero()[0].tolist() == [column]
    assert [mark.column for mark in film.marks or ()] == [column, COLUMNS - 1]


@pytest.mark.parametrize(("at", "column"), [(9, 4), (8, 4), (7, 3)])
def test_tokens_of_two_frames_show_the_first_of_each(at, column):
    clip = square([(0, 0)] * at + [(8, 8)] * (16 - at), [DigitEvent(at, "vanish", 1, (12.0, 12.0))])
    film = make_film(clip.frames, relative_steps(means(clip.frames, 2)[None])[0], clip)
    assert len(film.frames) == 8
    (mark,) = film.marks or ()
    assert (mark.column, mark.leaves, mark.arrives) == (column, (12, 12), None)
    assert np.array_equal(film.frames[column], clip.frames[2 * column].movedim(0, -1))


class Means(Encoder):
    """Mean colors of patches."""

    patch_size = (1, PATCH, PATCH)
    width = embedding_dim = 3

    def forward(self, images: torch.Tensor) -> Encoding:
        tokens = torch.stack([means(clip) for clip in images])
        return Encoding(tokens.flatten(1, -2).mean(1), tokens)


def test_videos_without_known_scenes_are_drawn():
    class Videos:
        def __len__(self):
            return 5

        def __getitem__(self, index):
            return MemoryVideo(JUMP.frames), -1

    zero, one = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    found = evaluate(
        [Subject("trained", Means()), Subject("untrained", Means())],
        Source("videos", Videos(), mean=zero, std=one, clips=True),
        DataSettings(source="videos", image_size=16, frames=5),
        tasks=["filmstrip"],
    )
    assert not found.scores
    assert [picture.name for picture in found.pictures] == 2 * ["clip_1", "clip_2", "clip_3"]
    assert all(picture.png.startswith(b"\x89PNG") for picture in found.pictures)
