"""Which of a run's metrics decide: what a page begins with, and what it lays side by side."""

from collections.abc import Sequence

from levyjepa.report.folder import Run

OF_IMAGES = (
    "linear_probe",
    "knn",
    "segmentation/miou",
    "boundaries/increments/average_precision",
)
OF_CLIPS = "tracking/there", "jumps/tokens/objects/average_precision", "linear_probe"
OF_SEQUENCES = "tracking/j_and_f", "linear_probe"
LAST = "online_last"  # where there is nothing else


def deciding(runs: Sequence[Run]) -> list[str]:
    """The metrics that decide, of those that some run has."""
    found = {metric for run in runs for metric in run.scores}
    wanted = OF_IMAGES
    if OF_CLIPS[1] in found:
        wanted = OF_CLIPS
    elif OF_SEQUENCES[0] in found:
        wanted = OF_SEQUENCES
    return [metric for metric in wanted if metric in found] or [LAST][: LAST in found]


def follows(runs: Sequence[Run]) -> bool:
    """Whether objects were followed, which decides then."""
    return deciding(runs)[:1] in ([OF_CLIPS[0]], [OF_SEQUENCES[0]])


def unit(run: Run) -> str:
    """What a run is trained on: image or clip."""
    return "image" if run.settings.get("data.frames") is None else "clip"
