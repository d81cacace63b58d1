"""What a long evaluation is at, on a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


@contextmanager
def stages(shown: bool, doing: str = "Evaluating") -> Iterator[Callable[[str], None]]:
    """A function that shows what begins, beside the time that has passed."""
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    if not shown:
        yield lambda what: None
        return
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(f"{doing}…")
        yield lambda what: progress.update(task, description=f"{doing}: {what}")
