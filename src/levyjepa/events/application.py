"""From a video to the files that say where its shots begin."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from levyjepa.data.video import Frame, Video, read_frames
from levyjepa.events.colors import SIDE, Embed
from levyjepa.events.detect import FALSE_ALARMS, find_events
from levyjepa.events.shots import Events, write_events


def analyze_video(
    video: str | Path,
    folder: str | Path,
    rate: float = 25.0,
    encoder: Any = None,
    false_alarms_per_hour: float = FALSE_ALARMS,
    progress: Callable[[Iterable[Frame], int], Iterable[Frame]] | None = None,
) -> Events:
    """Find a video's events and write `events.json`, `shots.csv` and `timeline.png` to a folder.

    Args:
        video: A file, or a folder of pictures.
        folder: Where the files go; it is made.
        rate: Frames a second of a folder of pictures.
        encoder: Describes frames in place of their colors, as `levyjepa.load` returns it.
        false_alarms_per_hour: As of `find_events`.
        progress: A progress bar: gets the frames and their number, and passes the frames on.

    Raises:
        UnreadableVideoError: As of `read_frames`.
        ValueError: The video has one frame.
    """
    from levyjepa.events.timeline import draw_timeline, pictured

    source = Video(video, rate=rate)
    if len(source) < 2:
        raise ValueError(f"`video` must have at least 2 frames, got 1: {video}.")
    size = (SIDE, SIDE) if encoder is None else encoder.config.data.image_size
    frames: Iterable[Frame] = read_frames(video, size, rate)
    if progress is not None:
        frames = progress(frames, len(source))
    embed = None if encoder is None else embed_by(encoder)
    events = find_events(frames, embed, false_alarms_per_hour)
    write_events(events, folder)
    pictures = [source.take([events.shots[shot].start])[0] for shot in pictured(events)]
    draw_timeline(events, pictures, Path(folder) / "timeline.png")
    return events


def embed_by(trained: Any) -> Embed:
    """Describe frames by a trained encoder; one of clips sees each frame as a clip that rests.

    Args:
        trained: As `levyjepa.load` returns it: `embed` takes uint8 (N, 3, H, W), or (N, T, 3, H, W)
            where `encoder.patch_size` has an axis of time.
    """

    def embed(images: np.ndarray) -> np.ndarray:
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
        encoder = trained.encoder
        if len(encoder.patch_size) == 3:
            length = (encoder.fixed_size or encoder.patch_size)[0]
            pixels = pixels[:, None].expand(-1, length, -1, -1, -1)
        return trained.embed(pixels).float().cpu().numpy()

    return embed
