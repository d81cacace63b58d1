"""`levyjepa events`: where a video's shots begin."""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from levyjepa.cli.command import Command, add_overrides, out


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("video", metavar="VIDEO", help="a file, or a folder of pictures")
    add_overrides(parser)


def _run(options: Namespace) -> int:
    from rich.console import Console
    from rich.progress import track

    from levyjepa.data.video import Video, read_frames
    from levyjepa.evaluation.events import embed_by, find_events, write_events
    from levyjepa.report.timeline import draw_timeline, pictured

    given = {"run_dir": "", "checkpoint": "", "rate": "25"}
    for override in options.overrides:
        key, _, value = override.partition("=")
        if key not in given or not value:
            raise ValueError(f"Settings of events are {', '.join(given)}, got {override!r}.")
        given[key] = value
    try:
        rate = float(given["rate"])
    except ValueError:
        raise ValueError(f"`rate` must be a number, got {given['rate']!r}.") from None
    video = Video(options.video, rate=rate)
    if len(video) < 2:
        raise ValueError(
            f"`VIDEO` must be a video, or a folder of its pictures, got one frame: {options.video}."
        )
    folder = Path(given["run_dir"] or f"runs/{Path(options.video).stem}")
    if folder.exists() and not given["run_dir"]:
        raise ValueError(
            f"{folder} exists, of another video maybe; run_dir={folder} writes there all the same."
        )
    size, embed = (32, 32), None
    if given["checkpoint"]:
        from levyjepa.training.checkpoint import load

        trained = load(given["checkpoint"])
        size = (trained.config.data.image_size, trained.config.data.image_size)
        embed = embed_by(trained.network.encoder, trained.mean, trained.std)
    watched = track(
        read_frames(options.video, size, rate),
        "frames",
        len(video),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    found = find_events(watched, embed)
    pictures = [video.take([found.shots[shot].start])[0] for shot in pictured(found)]
    write_events(found, folder)
    draw_timeline(found, pictures, folder / "timeline.png")
    for event in found.events:
        out(f"frame {event.frame}, {event.time:.3f} s: a shot begins, p = {event.probability:.3f}")
    shots = f"{len(found.shots)} shot{'s'[: len(found.shots) > 1]}"
    out(f"{shots}: {folder / 'events.json'}, shots.csv, timeline.png")
    return 0


EVENTS = Command(
    "Find the frames at which a video's shots begin, a file's or those of a folder of pictures "
    "(rate=25 a second): events.json, shots.csv and timeline.png in run_dir, which is runs/ and "
    "the video's name unless given. Frames are described by their colours, the way that was "
    "measured; checkpoint=C describes them by a trained network, for what was learned from many "
    "videos like this one: after few or other images it finds less, and false events.",
    "levyjepa events video.mp4 run_dir=runs/video",
    _arguments,
    _run,
)
