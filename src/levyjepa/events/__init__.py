"""The frames of a video at which its shots begin, found as jumps of a Lévy process."""

from levyjepa.events.application import analyze_video, embed_by
from levyjepa.events.colors import Embed, colors
from levyjepa.events.detect import FALSE_ALARMS, find_events
from levyjepa.events.film_law import STATED, FilmLaw
from levyjepa.events.shots import Event, Events, Shot, write_events
from levyjepa.events.timeline import draw_timeline

__all__ = [
    "FALSE_ALARMS",
    "STATED",
    "Embed",
    "Event",
    "Events",
    "FilmLaw",
    "Shot",
    "analyze_video",
    "colors",
    "draw_timeline",
    "embed_by",
    "find_events",
    "write_events",
]
