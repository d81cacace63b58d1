"""The answer first: which law, how sure, jumps or not; then a table, pictures and the details."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import yaml
from torch import Tensor

from levyjepa.diagnose.drawings import draw
from levyjepa.diagnose.measure import LEVEL, SHOWN, STENCILS, PictureData, Row, measure
from levyjepa.lattice import Stencil
from levyjepa.tasks.score import Picture

ALIKE = 0.5  # share of the variance that images have in common above which a note says so
NONE = "–"
GREEK = {"sigma": "σ", "alpha": "α", "beta": "β", "delta": "δ"}


@dataclass(frozen=True)
class Detail:
    """A further table, and what it shows."""

    title: str
    text: str
    table: pd.DataFrame


@dataclass(frozen=True)
class Diagnosis:
    """What the increments of a model's tokens say; see `diagnose`."""

    results: list[tuple[Row, PictureData]]  # for each layer and stencil
    images: int
    seed: int
    model: str = ""
    data: str = ""
    random: bool = False
    image_size: int | None = None
    shown: np.ndarray | None = None  # (M, H, W, 3) uint8, the images of the jump maps

    @property
    def rows(self) -> list[Row]:
        """Nested numbers of each layer and stencil."""
        return [row for row, _ in self.results]

    @property
    def verdict(self) -> str:
        """Whether there are jumps, by which law, how sure, and whether it is a full Lévy law."""
        n = len(self.rows)
        pairs = f"{n} pairs of layer and stencil" if n > 1 else "the one pair of layer and stencil"
        answer = (
            f"No jumps at {pairs}: a law with jumps does not clearly predict held-out images "
            "better than a Gaussian"
        )
        if chosen := [row["chosen"] for row in self.rows if row["jumps_clear"]]:
            families = Counter(law["family"] for law in chosen).most_common()
            names = ", ".join(f"{count} × {name}" for name, count in families)
            gains = [law["gain"] for law in chosen]
            sure = median(g["value"] / g["error"] if g["error"] else math.inf for g in gains)
            answer = (
                f"Jumps at {len(chosen)} of {pairs}: a law with jumps ({names}) predicts held-out "
                f"images better than a Gaussian, by {_text(sure, 0)} standard errors"
            ) + " (median)" * (len(chosen) > 1)
        levy = sum(row["follows"] for row in self.rows)
        source = f" of {self.data}" * bool(self.data)
        return (
            f"{answer}. A full Lévy law, which also asks for independent increments, holds at "
            f"{levy} of {n}. {self.images} images{source}."
        ) + " The weights are random: nothing here was learned." * self.random

    @property
    def notes(self) -> list[str]:
        """What one should know beside the verdict."""
        rows, n = self.rows, len(self.rows)
        tails = _range(row["kurtosis"]["value"] for row in rows)
        control = _range(row["gaussian"]["kurtosis"]["value"] for row in rows)
        rejected = sum(row["goodness"]["p_value"] < LEVEL for row in rows)
        gaussian = sum(row["goodness_of_gaussian"]["p_value"] < LEVEL for row in rows)
        notes = [
            f"Excess kurtosis is {tails}; Gaussian increments of the same covariance show "
            f"{control}.",
            f"Held-out increments reject the chosen law at {rejected} of {n} and the Gaussian at "
            f"{gaussian} (p < {LEVEL}; chance alone rejects {LEVEL * n:.1f}).",
        ]
        most = max(rows, key=lambda row: row["fixed"])
        if most["fixed"] > ALIKE:
            notes.append(
                f"At {most['layer']}, {most['stencil']}, {100 * most['fixed']:.0f} % of the "
                "variance is the same in every image, place by place; there the law describes "
                "places more than images."
            )
        if failed := sorted({name for row in rows for name in row["failed"]}):
            notes.append(f"Some increments were too large to fit {', '.join(failed)}.")
        return notes

    @property
    def numbers(self) -> pd.DataFrame:
        """Every number, in a column of its own, a row for each layer and stencil."""
        return pd.json_normalize(self.rows)

    @property
    def table(self) -> pd.DataFrame:
        """A row for each layer and stencil, as text with standard errors."""
        return self._tables[0].table

    @property
    def details(self) -> list[Detail]:
        """Further tables: the law, independence, and what jumps strike."""
        return self._tables[1:]

    @property
    def _tables(self) -> list[Detail]:
        index = [f"{row['layer']}, {row['stencil']}" for row in self.rows]
        tables = []
        for part in yaml.safe_load((Path(__file__).parent / "details.yaml").read_text("utf-8")):
            columns = part["columns"].items()
            texts = {name: [_cell(row, where) for row in self.rows] for name, where in columns}
            table = pd.DataFrame(texts, index)
            text = part["text"].format(half=self.images // 2)
            tables.append(Detail(part["title"], text, table.loc[:, (table != NONE).any()]))
        return tables

    @cached_property
    def pictures(self) -> list[Picture]:
        """Increments beside the laws, cells of growing size, and maps of jumps."""
        return draw(self.results, self.shown)

    def as_dict(self) -> dict[str, Any]:
        """Return what `diagnosis.json` holds, None for what is not finite."""
        about = ("images", "seed", "model", "data", "random", "image_size", "verdict", "notes")
        findings = [_finite(row) for row in self.rows]
        return {name: getattr(self, name) for name in about} | {"findings": findings}


def diagnose(
    fields: Mapping[str, Tensor],
    stencils: Sequence[Stencil] = STENCILS,
    seed: int = 0,
    progress: Callable[[str], None] = lambda text: None,
    *,
    images: Tensor | None = None,
    model: str = "",
    data: str = "",
    random: bool = False,
) -> Diagnosis:
    """Find the law of the increments at each layer and stencil, and whether they are independent.

    A layer's tokens are divided by one number, so that increments over a unit volume have variance
    1 on average over the stencils, and read along 16 random orthonormal directions (fewer
    channels: all, turned at random). The order of a model's channels does not matter; whether all
    directions share one law does. Laws are fitted to half of the images and compared on the other
    half. Every standard error takes images for the independent units, since increments of one
    image depend on each other.

    Args:
        fields: (N, h, w, C) tokens of the same N images, by the layer's name.
        stencils: Of two axes, with steps.
        seed: Draws the halves, the directions, the increments and the controls.
        progress: Called with the layer and stencil that comes next.
        images: (N, 3, H, W) uint8, for maps of jumps.
        model, data: What to call them.
        random: Whether the weights are random, which the verdict then says.

    Raises:
        ValueError: Fewer than 8 images, a grid too small for a stencil, tokens that are not finite
            or the same everywhere.
    """
    results = measure(fields, stencils, seed, progress)
    count = len(next(iter(fields.values())))
    size = None if images is None else images.shape[-1]
    shown = None if images is None else images[:SHOWN].movedim(1, -1).numpy()
    return Diagnosis(results, count, seed, model, data, random, size, shown)


def _cell(row: Row, where: str) -> str:
    path, _, digits = where.partition(":")
    value: Any = reduce(lambda part, key: part.get(key, {}), path.split("."), row)
    if path == "chosen":
        parts = []
        for name, estimate in value["parameters"].items():
            short = name.rsplit(".", 1)[-1]
            jump = "jump " * (".jumps." in name)  # "jump α 1.12 ± 0.03"
            parts.append(f"{jump}{GREEK.get(short, short)} {_text(estimate)}")
        return f"{value['family']}\n{', '.join(parts)}"
    return _text(value, int(digits or 2))


def _text(value: Any, digits: int = 2) -> str:
    if isinstance(value, dict):
        return " ± ".join(_text(number, digits) for number in value.values()) or NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if not math.isfinite(value):
        return "∞" if value > 0 else NONE
    text = f"{value:.2g}" if abs(value) >= 1000 else f"{round(value, digits) + 0.0:.{digits}f}"
    return text.replace("-", "−")


def _range(values: Iterable[float]) -> str:
    ordered = sorted(values)
    low, high = _text(ordered[0]), _text(ordered[-1])
    return low if low == high else f"{low} to {high}"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
