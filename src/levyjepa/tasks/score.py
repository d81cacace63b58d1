"""What a task returns: scores and pictures that describe themselves."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from levyjepa import checks

# What a score is of: shown as.
SUBJECTS = {"trained": "trained", "untrained": "untrained", "pixels": "raw pixels"}


@dataclass(frozen=True)
class Score:
    """One number, with all that a table or a page must know to show it.

    Args:
        name: Within its task, such as "miou"; slashes group: "tokens/average_precision".
        value: The number, finite.
        interval: Ends of its 95 % interval.
        n: How many images, pixels or objects it is over.
        unit: "%" for a share in [0, 1], shown in percent; else what to write behind it.
        chance: The value without any knowledge of the image.
        title: For tables; made from the name if empty.
        note: One line: what it is, how it is measured.
        higher_is_better: None where neither direction is better.
        headline: Whether it is the task's main number.
        task, subject: Filled in by `evaluate`: the task's name, and what was evaluated, one of
            "trained", "untrained" and "pixels".
    """

    name: str
    value: float
    interval: tuple[float, float] | None = None
    n: int | None = None
    unit: str = "%"
    chance: float | None = None
    title: str = ""
    note: str = ""
    higher_is_better: bool | None = True
    headline: bool = False
    task: str = ""
    subject: str = "trained"

    def __post_init__(self) -> None:
        if not self.name or not isinstance(self.name, str):
            raise ValueError(f"`name` must be text that is not empty, got {self.name!r}.")
        value = checks.finite(f"value of {self.name}", self.value)
        object.__setattr__(self, "value", float(value))
        if self.interval is not None:
            low, high = map(float, self.interval)
            if not low <= high:  # NaN too
                raise ValueError(f"`interval` must be (low, high), got {self.interval}.")
            object.__setattr__(self, "interval", (low, high))
        if not self.title:
            words = self.name.replace("_", " ").replace("/", ", ")
            object.__setattr__(self, "title", words[:1].upper() + words[1:])

    @property
    def key(self) -> str:
        """Its name across tasks: "segmentation/miou"."""
        return f"{self.task}/{self.name}" if self.task else self.name

    def text(self, value: float | None = None, signed: bool = False) -> str:
        """Write a value in this score's unit.

        >>> Score("accuracy", 0.8231).text(), Score("rank", 12.34, unit="").text()
        ('82.3 %', '12.3')
        """
        value, sign = self.value if value is None else value, "+" if signed else ""
        if not math.isfinite(value):
            return "–"
        if self.unit == "%":
            return f"{100 * value:{sign}.1f}" + ("" if signed else " %")
        return f"{value:{sign}.3g} {self.unit}".strip()

    def as_dict(self) -> dict[str, Any]:
        """Return what `evaluation.json` holds."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Score":
        """Read what `as_dict` gives; unknown keys are left out."""
        known = {field.name for field in fields(cls)}
        return cls(**{key: value for key, value in values.items() if key in known})


@dataclass(frozen=True)
class Picture:
    """A picture that a task draws for the report.

    Args:
        name: Within its task, a file's stem: "jumps".
        png: Bytes of a PNG.
        title: Above it.
        caption: One or two sentences below it: what to look for.
        headline: Whether it comes first on the page.
        task, subject: Filled in by `evaluate`, as of `Score`.
    """

    name: str
    png: bytes
    title: str = ""
    caption: str = ""
    headline: bool = False
    task: str = ""
    subject: str = "trained"
