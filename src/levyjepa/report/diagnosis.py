"""A diagnosis as numbers (JSON, CSV, a short table) and as one self-contained page."""

import csv
import json
import math
from collections import Counter
from dataclasses import dataclass, fields, is_dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch

from levyjepa.evaluation.diagnose import DIRECTIONS, Finding
from levyjepa.evaluation.diagnose.choice import GAUSSIAN, Candidate, Estimate
from levyjepa.laws import Law
from levyjepa.report import figures, pictures
from levyjepa.report.drawing import Panel, Tile
from levyjepa.report.numbers import Entry
from levyjepa.report.template import render
from levyjepa.training.diagnosis import Diagnosis

LEVEL = 0.05  # p-values below reject
CLOSE = 0.05  # a correlation, or twice it a ratio's distance from 1, that counts for nothing
ERRORS = 3.0  # so does one within so many standard errors
ALIKE = 0.5  # share of the variance that images have in common above which it is said
RANDOM = (
    "The weights are random: what follows tells of the architecture and the images, and of nothing "
    "learned (pretrained=true fetches a model’s own)."
)
GREEK = {"sigma": "σ", "alpha": "α", "beta": "β", "delta": "δ"}


@dataclass(frozen=True)
class Grid:
    """Column heads, and entries for each finding."""

    columns: list[str]
    rows: list[tuple[Finding, list[Entry]]]


def write_diagnosis(diagnosis: Diagnosis) -> Path:
    """Write diagnosis.json, .csv and .html into the diagnosis's folder; return the page's path."""
    diagnosis.folder.mkdir(parents=True, exist_ok=True)
    stem = diagnosis.folder / "diagnosis"
    stem.with_suffix(".json").write_text(
        json.dumps(_plain(diagnosis), indent=1, ensure_ascii=False), "utf-8"
    )
    rows = [record(finding) for finding in diagnosis.findings]
    with stem.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)
    page = stem.with_suffix(".html")
    page.write_text(_page(diagnosis), "utf-8")
    return page


def short_table(diagnosis: Diagnosis) -> str:
    """The table for a terminal, and what it comes to."""
    head = ("layer", "stencil", "law", "gain", "p", "kurtosis", "neighbours", "energies", "")
    rows: list[tuple[str, ...]] = [head]
    for each in diagnosis.findings:
        side = each.sides[0]
        rows.append(
            (
                each.layer,
                each.stencil,
                each.choice.chosen.family,
                _pm(each.choice.chosen.gain, 4),
                f"{each.goodness.p_value:.3f}",
                _pm(each.kurtosis, 2),
                _pm(side.neighbours, 2),
                _pm(side.energies, 2),
                "Lévy" if follows(each) else "",
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = ["  ".join(v.ljust(w) for v, w in zip(r, widths, strict=True)).rstrip() for r in rows]
    return "\n".join([*lines, "", *lead(diagnosis)])


def fits(finding: Finding) -> bool:
    """Whether held-out increments do not reject the chosen law."""
    return finding.goodness.p_value >= LEVEL


def independent(finding: Finding) -> bool:
    """Whether cells of every side behave as disjoint cells of a Lévy law do.

    Neighbours correlate neither in their increments nor in their squared norms (by at most .05 or
    three standard errors), and variance grows as the volume (within 10 % or three).
    """
    zeros = [e for side in finding.sides for e in (side.neighbours, side.energies) if e]
    ones = [side.variance for side in finding.sides]
    return all(abs(e.value) <= max(CLOSE, ERRORS * e.error) for e in zeros) and all(
        abs(e.value - 1) <= max(2 * CLOSE, ERRORS * e.error) for e in ones
    )


def follows(finding: Finding) -> bool:
    """Whether nothing that was measured speaks against a Lévy law."""
    return fits(finding) and independent(finding)


def lead(diagnosis: Diagnosis) -> list[str]:
    """What the findings come to, in a few sentences."""
    found = diagnosis.findings
    n = len(found)
    pairs = f"{n} pairs of layer and stencil" if n > 1 else "the one pair of layer and stencil"
    tailed = Counter(f.choice.chosen.family for f in found if f.choice.chosen.family != GAUSSIAN)
    tails = (
        f"excess kurtosis is {_range([f.kurtosis.value for f in found])}, where Gaussian "
        "increments of the same covariance show "
        f"{_range([f.gaussian.kurtosis.value for f in found])}."
    )
    if tailed:
        often, _ = tailed.most_common(1)[0]
        first = (
            f"At {tailed.total()} of {pairs} a law with jumps predicts held-out increments better "
            f"than the Gaussian, most often {often}; {tails}"
        )
    else:
        first = (
            f"At none of {pairs} does a law with jumps predict better than the Gaussian; {tails}"
        )
    second = (
        f"Held-out increments reject the chosen law at {sum(not fits(f) for f in found)} "
        f"(p < {LEVEL}; {LEVEL * n:.1f} are expected by chance), the Gaussian at "
        f"{sum(f.goodness_of_gaussian.p_value < LEVEL for f in found)}."
    )
    apart = sum(independent(f) for f in found)
    energies = [f.sides[0].energies.value for f in found if f.sides[0].energies]
    third = (
        f"Cells are independent, as a Lévy law asks, at {apart}; "
        + (
            f"squared norms of neighbours correlate by {_range(energies)}. "
            if energies
            else "there is no room for neighbours. "
        )
        + f"Both together, a Lévy law, hold at {sum(map(follows, found))} of {n}."
    )
    most = max(found, key=lambda f: f.fixed)
    fourth = (
        f"At {most.layer}, {most.stencil}, {100 * most.fixed:.0f} % of the variance is the same in "
        "every image, place by place: there the law tells of places more than of images."
    )
    said = [first, second, third] + [fourth] * (most.fixed > ALIKE)
    return [RANDOM, *said] if diagnosis.random else said


def record(finding: Finding) -> dict[str, Any]:
    """A finding as one row of plain values."""
    chosen, jumps = finding.choice.chosen, finding.jumps
    row: dict[str, Any] = {
        "layer": finding.layer,
        "stencil": finding.stencil,
        "family": chosen.family,
        "law": repr(chosen.law),
        "follows_a_levy_law": follows(finding),
        "fits": fits(finding),
        "independent": independent(finding),
        "deviations": finding.goodness.deviations,
        "p_value": finding.goodness.p_value,
        "gaussian_deviations": finding.goodness_of_gaussian.deviations,
        "gaussian_p_value": finding.goodness_of_gaussian.p_value,
        "variance": finding.variance,
        "spread": finding.spread,
        "fixed": finding.fixed,
        "jump_share": jumps.share if jumps else None,
        "jump_share_of_law": jumps.expected if jumps else None,
        "together_of_law": jumps.isotropic if jumps else None,
    }
    estimates: dict[str, Estimate | None] = {"gain": chosen.gain, "kurtosis": finding.kurtosis}
    estimates["together"] = jumps.together if jumps else None
    estimates["channels_together"] = jumps.channels if jumps else None
    for side in finding.sides:
        for name in ("variance", "kurtosis", "neighbours", "energies"):
            estimates[f"side_{side.side}_{name}"] = getattr(side, name)
    for name in ("gaussian", "shuffled"):
        control = getattr(finding, name)
        for field in fields(control):
            estimates[f"{name}_{field.name}"] = getattr(control, field.name)
    for name, estimate in estimates.items():
        row[name] = estimate.value if estimate else None
        row[f"{name}_error"] = estimate.error if estimate else None
    return row


def _plain(value: Any) -> Any:
    """For JSON: laws are text, arrays are left out, and what is not finite is null."""
    if is_dataclass(value):
        pairs = [(field.name, getattr(value, field.name)) for field in fields(value)]
        found = {k: _plain(v) for k, v in pairs if not isinstance(v, (np.ndarray, Path))}
        if isinstance(value, Finding):
            found["follows"] = follows(value)
        return found
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, Law):
        return repr(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _page(diagnosis: Diagnosis) -> str:
    maps = [f for f in diagnosis.findings if f.stencil == "box" and f.jumps]
    return render(
        "diagnosis.html",
        title=f"Patch tokens of {diagnosis.model} on {diagnosis.data}",
        lead=lead(diagnosis),
        about=diagnosis,
        half=diagnosis.images // 2,
        directions=DIRECTIONS,
        laws=_laws(diagnosis.findings),
        cells=_cells(diagnosis.findings),
        strikes=_strikes(diagnosis.findings),
        failed=sorted({name for f in diagnosis.findings for name in f.choice.failed}),
        densities=[
            (layer, [_density(f) for f in some])
            for layer, some in groupby(diagnosis.findings, lambda f: f.layer)
        ],
        maps=maps,
        strips=_strips(diagnosis.shown, maps),
    )


def _laws(findings: list[Finding]) -> Grid:
    columns = ["Law", "Gain over the Gaussian", "Misfit", "Misfit of the Gaussian"]
    columns += ["Excess kurtosis", "of Gaussians", "of shuffled tokens"]

    def entries(f: Finding) -> list[Entry]:
        misfits = (f.goodness, f.goodness_of_gaussian)
        return [
            Entry(f.choice.chosen.family, parameters(f.choice.chosen)),
            _entry(f.choice.chosen.gain, 3),
            *(Entry(_number(g.deviations, 1), f"p = {g.p_value:.3f}") for g in misfits),
            *(_entry(k, 2) for k in (f.kurtosis, f.gaussian.kurtosis, f.shuffled.kurtosis)),
        ]

    return Grid(columns, [(f, entries(f)) for f in findings])


def _cells(findings: list[Finding]) -> Grid:
    sides = [side.side for side in max((f.sides for f in findings), key=len)]
    columns = [f"{what}, side {k}" for what in ("Neighbours", "Energies") for k in sides]
    columns += [f"Variance, side {k}" for k in sides[1:]]

    def entries(f: Finding) -> list[Entry]:
        by_side = {side.side: side for side in f.sides}
        found = [by_side.get(k) for k in sides]
        return [
            *(_entry(side and side.neighbours, 2) for side in found),
            *(_entry(side and side.energies, 2) for side in found),
            *(_entry(side and side.variance, 2) for side in found[1:]),
        ]

    return Grid(columns, [(f, entries(f)) for f in findings])


def _strikes(findings: list[Finding]) -> Grid:
    columns = ["Cells with a jump", "by the law", "Channels together", "Directions", "by the law"]
    columns += ["Spread over directions", "Fixed share", "Variance per volume"]

    def entries(f: Finding) -> list[Entry]:
        told = [Entry("many"), *[Entry("–")] * 4]
        if j := f.jumps:
            shares = Entry(f"{j.share:.2f}", j.family), Entry(f"{j.expected:.2f}")
            both = _entry(j.channels, 2), _entry(j.together, 2)
            told = [*shares, *both, Entry(_number(j.isotropic, 2))]
        return told + [Entry(f"{value:.2f}") for value in (f.spread, f.fixed, f.variance)]

    return Grid(columns, [(f, entries(f)) for f in findings])


def parameters(candidate: Candidate) -> str:
    """Such as "σ 0.26 ± 0.01, rate 0.61 ± 0.03, jump α 1.12 ± 0.03"."""
    parts = []
    for name, estimate in candidate.parameters.items():
        short = name.rsplit(".", 1)[-1]
        stem = "jump " if ".jumps." in name else ""
        parts.append(f"{stem}{GREEK.get(short, short)} {_pm(estimate, 2)}")
    return ", ".join(parts)


def _density(finding: Finding) -> Panel:
    chosen, plain = finding.choice.chosen, finding.choice.of(GAUSSIAN)
    return Panel(
        f"{finding.stencil}: {chosen.family}",
        figures.density(
            finding.sample,
            _samples(plain.law, finding) if plain else np.empty(0),
            _samples(chosen.law, finding),
            figures.PALETTE[0],
        ),
        f"{parameters(chosen)}.",
    )


def _samples(law: Law, finding: Finding) -> np.ndarray:
    generator = torch.Generator().manual_seed(0)
    return law.sample((200_000,), finding.volume, generator=generator).numpy()


def _strips(images: np.ndarray, maps: list[Finding]) -> list[list[Tile]]:
    strips = []
    for i, image in enumerate(images if maps else []):
        tiles = [Tile(pictures.thumbnail(image), "image")]
        for f in maps:
            assert f.jumps is not None
            tiles.append(Tile(pictures.jump_map(image, f.jumps.maps[i].clip(0, 1)), f.layer))
        strips.append(tiles)
    return strips


def _entry(estimate: Estimate | None, digits: int) -> Entry:
    if estimate is None:
        return Entry("–")
    return Entry(_number(estimate.value, digits), f"± {_number(estimate.error, digits + 1)}")


def _pm(estimate: Estimate | None, digits: int) -> str:
    if estimate is None:
        return "–"
    return f"{_number(estimate.value, digits)} ± {_number(estimate.error, digits)}"


def _number(value: float, digits: int) -> str:
    if not math.isfinite(value):
        return "∞" if value > 0 else "–"
    if abs(value) >= 1000:
        return f"{value:.2g}".replace("-", "−")
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


def _range(values: list[float]) -> str:
    low, high = _number(min(values), 2), _number(max(values), 2)
    return low if low == high else f"{low} to {high}"
