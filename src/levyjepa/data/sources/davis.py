"""Videos with object masks in DAVIS's layout."""

from levyjepa.data.davis_layout import open_davis
from levyjepa.data.images import Images
from levyjepa.data.registry import register_source
from levyjepa.data.settings import DataSettings
from levyjepa.data.source import Source
from levyjepa.data.sources.folder import existing
from levyjepa.data.video import Videos


@register_source("davis")
def davis(settings: DataSettings) -> Source:
    """Frames, or clips, of the training list's sequences; those of the test list are tracked."""
    if settings.holdout:
        raise ValueError(f"`data.holdout` must be 0 for data=davis, got {settings.holdout:g}.")
    root, clips = existing(settings), settings.frames is not None
    lists = [open_davis(root, name) for name in (settings.train_split, settings.test_split)]
    if clips:
        size = 2 * settings.image_size  # of the short side: crops are taken from it
        train, test = (Videos([s.images[0].parent for s in some], size=size) for some in lists)
    else:
        train, test = (Images([path for s in some for path in s.images]) for some in lists)
    return Source(root.name, train, test, sequences=lists[1], clips=clips)
