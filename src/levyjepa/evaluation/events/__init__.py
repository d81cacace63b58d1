"""The frames of a video at which a shot begins: jumps of what its frames show."""

from levyjepa.evaluation.events.detect import find_events
from levyjepa.evaluation.events.law import JumpLaw
from levyjepa.evaluation.events.pictures import Embed, embed_by, histogram
from levyjepa.evaluation.events.record import Event, Events, Shot, write_events

__all__ = [
    "Embed",
    "Event",
    "Events",
    "JumpLaw",
    "Shot",
    "embed_by",
    "find_events",
    "histogram",
    "write_events",
]
