"""What a long evaluation is doing, on a terminal or in a log."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


@contextmanager
def show_stages(shown: bool, title: str = "Evaluating") -> Iterator[Callable[[str], None]]:
    """Yield a function that shows which stage begins, beside the time that has passed."""
    if not shown or not sys.stderr.isatty():
        yield lambda stage: None
        return
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(f"{title} …")
        yield lambda stage: progress.update(task, description=f"{title}: {stage}")
