"""Tasks by name: ours in `builtin/`, a script's own and those of plugins."""

from collections.abc import Callable, Sequence
from typing import Any

from levyjepa.registry import Registry

TASKS = Registry("task", "levyjepa.tasks.builtin")
NEEDS = ("labels", "masks", "scenes", "sequences", "images", "clips")


def register_task(
    name: str,
    *,
    title: str = "",
    help: str = "",
    needs: Sequence[str] = (),
    subjects: Sequence[str] = ("trained", "untrained", "pixels"),
    order: int = 100,
) -> Callable[[Any], Any]:
    """Return a decorator that registers a task: a function from a `Context` to scores.

    The function is called once for each subject: the trained encoder, the same encoder untrained,
    and raw pixels.

    Args:
        name: How tables, files and `levyjepa evaluate --task NAME` call it.
        title: Head of its table; made from the name if empty.
        help: One line; the first line of the docstring if empty.
        needs: What data must have, or the task is left out: "labels" (of train and test images),
            "masks", "scenes", "sequences", "images" (no clips), "clips".
        subjects: Which subjects it is run on.
        order: Place among tasks; ours use 10 to 90.

    Raises:
        ValueError: The name is taken, or `needs` names something else.

    >>> import torch
    >>> from levyjepa.tasks import Score, register_task
    >>> @register_task("brightness", needs=("images",))
    ... def brightness(context):
    ...     "Whether the first feature follows brightness."
    ...     bright = context.test.images.float().mean((1, 2, 3))
    ...     feature = context.test.embedding[context.test.rows, 0]
    ...     both = torch.stack([bright, feature])
    ...     return [Score("correlation", float(both.corrcoef()[0, 1]), unit="")]
    """
    for need in needs:
        if need not in NEEDS:
            raise ValueError(f"`needs` must be of {', '.join(NEEDS)}, got {need!r}.")
    title = title or name.replace("_", " ").capitalize()
    options: dict[str, Any] = {"needs": tuple(needs), "subjects": tuple(subjects), "order": order}
    return TASKS.register(name, help=help, title=title, **options)
