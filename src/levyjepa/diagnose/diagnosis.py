"""The answer first: which law, how sure, jumps or not; then a table, pictures and the details."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from levyjepa.diagnose import drawings
from levyjepa.diagnose.families import Candidate, Estimate
from levyjepa.diagnose.measure import LEVEL, SHOWN, SIDES, STENCILS, Finding, measure
from levyjepa.lattice import Stencil
from levyjepa.laws import Law
from levyjepa.tasks.score import Picture

ALIKE = 0.5  # share of the variance that images have in common above which a note says so
NONE = "–"
TABLE = {
    "law": "choice.chosen.family",
    "gain": "choice.chosen.gain:4",
    "p": "goodness.p_value:3",
    "kurtosis": "kurtosis",
    "neighbors": "sides.0.neighbors",
    "energies": "sides.0.energies",
    "jumps": "jumps_clear",
    "Lévy": "follows",
}
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

    findings: list[Finding]
    images: int
    seed: int
    model: str = ""
    data: str = ""
    random: bool = False
    image_size: int | None = None
    shown: np.ndarray | None = None  # (M, H, W, 3) uint8, the images of the jump maps

    @property
    def verdict(self) -> str:
        """Whether there are jumps, by which law, how sure, and whether it is a full Lévy law."""
        n = len(self.findings)
        pairs = f"{n} pairs of layer and stencil" if n > 1 else "the one pair of layer and stencil"
        chosen = [f.choice.chosen for f in self.findings if f.jumps_clear]
        levy = sum(f.follows for f in self.findings)
        if chosen:
            families = Counter(c.family for c in chosen).most_common()
            names = ", ".join(f"{count} × {name}" for name, count in families)
            sure = median(c.gain.value / c.gain.error if c.gain.error else math.inf for c in chosen)
            answer = (
                f"Jumps at {len(chosen)} of {pairs}: a law with jumps "
                f"({names}) predicts held-out images better than a Gaussian, by "
                f"{_number(sure, 0)} standard errors" + " (median)" * (len(chosen) > 1)
            )
        else:
            answer = (
                f"No jumps at {pairs}: a law with jumps does not clearly predict held-out images "
                "better than a Gaussian"
            )
        return (
            f"{answer}. A full Lévy law, which also asks for independent increments, holds at "
            f"{levy} of {n}. {self.images} images"
            + f" of {self.data}" * bool(self.data)
            + "."
            + " The weights are random: nothing here was learned." * self.random
        )

    @property
    def notes(self) -> list[str]:
        """What one should know beside the verdict."""
        n = len(self.findings)
        tails = [f.kurtosis.value for f in self.findings]
        control = [f.gaussian.kurtosis.value for f in self.findings]
        rejected = sum(not f.fits for f in self.findings)
        gaussian = sum(f.goodness_of_gaussian.p_value < LEVEL for f in self.findings)
        notes = [
            f"Excess kurtosis is {_range(tails)}; Gaussian increments of the same covariance show "
            f"{_range(control)}.",
            f"Held-out increments reject the chosen law at {rejected} of {n} and the Gaussian at "
            f"{gaussian} (p < {LEVEL}; chance alone rejects {LEVEL * n:.1f}).",
        ]
        most = max(self.findings, key=lambda f: f.fixed)
        if most.fixed > ALIKE:
            notes.append(
                f"At {most.layer}, {most.stencil}, {100 * most.fixed:.0f} % of the variance is the "
                "same in every image, place by place; there the law describes places more than "
                "images."
            )
        if failed := sorted({name for f in self.findings for name in f.choice.failed}):
            notes.append(f"Some increments were too large to fit {', '.join(failed)}.")
        return notes

    @property
    def table(self) -> pd.DataFrame:
        """A row for each layer and stencil, as text with standard errors."""
        return self._table(TABLE)

    @property
    def numbers(self) -> pd.DataFrame:
        """Every number, in a column of its own, a row for each layer and stencil."""
        rows = []
        for row in self.as_dict()["findings"]:
            chosen = {k: v for k, v in row["choice"]["chosen"].items() if k != "parameters"}
            sides = {str(side["side"]): side for side in row["sides"]}
            rows.append({**row, "choice": chosen, "sides": sides})
        return pd.json_normalize(rows)

    @property
    def details(self) -> list[Detail]:
        """Further tables: the law, independence, and what jumps strike."""
        return [
            Detail(title, text.format(half=self.images // 2), self._table(columns))
            for title, text, columns in DETAILS
        ]

    def _table(self, columns: Mapping[str, str]) -> pd.DataFrame:
        rows = [{name: _cell(f, path) for name, path in columns.items()} for f in self.findings]
        table = pd.DataFrame(rows, [f"{f.layer}, {f.stencil}" for f in self.findings])
        return table.loc[:, (table != NONE).any()]

    @cached_property
    def pictures(self) -> list[Picture]:
        """Increments beside the laws, cells of growing size, and maps of jumps."""
        return drawings.draw(self.findings, self.shown)

    def as_dict(self) -> dict[str, Any]:
        """Return what `diagnosis.json` holds: laws as text, None for what is not finite."""
        held = {field.name: getattr(self, field.name) for field in fields(self)}
        return {"verdict": self.verdict, "notes": self.notes, **_plain(held)}


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
    findings = measure(fields, stencils, seed, progress)
    count = len(next(iter(fields.values())))
    size = None if images is None else images.shape[-1]
    shown = None if images is None else images[:SHOWN].movedim(1, -1).numpy()
    return Diagnosis(findings, count, seed, model, data, random, size, shown)


def parameters(candidate: Candidate) -> str:
    """Return text such as "σ 0.26 ± 0.01, rate 0.61 ± 0.03, jump α 1.12 ± 0.03"."""
    parts = []
    for name, estimate in candidate.parameters.items():
        short = name.rsplit(".", 1)[-1]
        stem = "jump " if ".jumps." in name else ""
        parts.append(f"{stem}{GREEK.get(short, short)} {_text(estimate, 2)}")
    return ", ".join(parts)


def _cell(finding: Finding, path: str) -> str:
    """A table's entry: attributes and indices, and after a colon the number of digits."""
    path, _, digits = path.partition(":")
    value: Any = finding
    for key in path.split("."):
        if isinstance(value, tuple):
            value = value[int(key)] if int(key) < len(value) else None
        else:
            value = None if value is None else getattr(value, key)
    return _text(value, int(digits or 2))


def _text(value: Any, digits: int) -> str:
    if isinstance(value, Estimate):
        return f"{_number(value.value, digits)} ± {_number(value.error, digits)}"
    if isinstance(value, Candidate):
        return f"{value.family}\n{parameters(value)}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return NONE if value is None else value if isinstance(value, str) else _number(value, digits)


def _plain(value: Any) -> Any:
    """For JSON: laws are text, arrays are left out, and what is not finite is None."""
    if is_dataclass(value):
        plain = _plain({field.name: getattr(value, field.name) for field in fields(value)})
        if isinstance(value, Finding):
            plain |= {k: getattr(value, k) for k in ("jumps_clear", "independent", "follows")}
        return plain
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items() if not isinstance(v, np.ndarray)}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Law):
        return repr(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: float, digits: int) -> str:
    if not math.isfinite(value):
        return "∞" if value > 0 else "–"
    if abs(value) >= 1000:
        return f"{value:.2g}".replace("-", "−")
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


def _range(values: list[float]) -> str:
    low, high = _number(min(values), 2), _number(max(values), 2)
    return low if low == high else f"{low} to {high}"


_LAWS = (
    "Laws were fitted to {half} images by maximum likelihood and compared on the others. The table "
    "names the simplest law that is not clearly worse than the best, by more than two standard "
    "errors and 0.0001. Gain is its log likelihood for each held-out increment above the "
    "Gaussian’s. Misfit is the distance of characteristic functions on thinned, disjoint cells, "
    "above what the law itself gives, in its standard deviations; p is the chance of as much. It "
    "ignores the error of the fit and that cells of an image may be alike, so it rejects too often "
    "rather than too rarely.\n\n"
    "Two controls go through the same procedure. Gaussian increments with the tokens’ covariance "
    "show what directions of unequal strength alone look like. Tokens shuffled over places and "
    "images are white noise with the tokens’ own values."
)
_CELLS = (
    "In a Lévy process, disjoint cells of every size are independent. Then neighbors, the "
    "correlation of increments of cells that share a face, and energies, that of their squared "
    "norms, are 0 at every side. The variance of large cells, divided by their volume and by the "
    "variance of the smallest, is 1. White noise is not a Lévy process: neighboring boxes share "
    "tokens and correlate by −0.50."
)
_STRIKES = (
    "The better of the two laws with discrete jumps says how many cells hold one. In an isotropic "
    "law a jump strikes all channels of a cell at once. Channels is the correlation of the "
    "probability of a jump between two of the model’s channels, brought to one variance; "
    "directions is that between two random directions. Independent channels give 0; random "
    "directions mix channels, so they can’t show that. Spread is how unequal the variance of "
    "directions is (deviation by mean). Fixed share is the part of the variance that all images "
    "have in common, place by place, such as a position embedding leaves."
)
DETAILS = (
    (
        "Which law",
        _LAWS,
        {
            "law": "choice.chosen",
            "gain": "choice.chosen.gain:3",
            "misfit": "goodness.deviations:1",
            "p": "goodness.p_value:3",
            "misfit of the Gaussian": "goodness_of_gaussian.deviations:1",
            "its p": "goodness_of_gaussian.p_value:3",
            "kurtosis of Gaussians": "gaussian.kurtosis",
            "of shuffled tokens": "shuffled.kurtosis",
        },
    ),
    (
        "Are cells independent",
        _CELLS,
        {
            f"{name}, side {side}": f"sides.{i}.{name}"
            for name in ("neighbors", "energies", "variance")
            for i, side in enumerate(SIDES)
            if (name, side) != ("variance", 1)
        },
    ),
    (
        "Do jumps strike all channels",
        _STRIKES,
        {
            "cells with a jump": "jumps.share",
            "by the law": "jumps.expected",
            "channels": "jumps.channels",
            "directions": "jumps.together",
            "both by the law": "jumps.isotropic",
            "spread": "spread",
            "fixed share": "fixed",
            "variance": "variance",
        },
    ),
)
