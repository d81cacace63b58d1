"""What was tried, each setting beside the one without it, so that a glance tells what helped."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from levyjepa.report.cells import IGNORED, Cell, differing, of_prior
from levyjepa.report.deciding import LAST, deciding
from levyjepa.report.numbers import known, signed
from levyjepa.training.comparison import cell_name, interval, title

VERDICTS = {
    "helps": "better",
    "hurts": "worse",
    "open": "can’t tell",
    "single": "one pair",
}


@dataclass(frozen=True)
class Mark:
    """One metric's paired difference, as text and as places on an axis from 0 to 100, 50 for 0."""

    value: float
    text: str
    interval: str  # empty with one pair
    n: int
    verdict: str  # a key of VERDICTS
    mean: float
    ends: tuple[float, float] | None
    dots: list[float]  # a pair each


@dataclass(frozen=True)
class Trial:
    """A setting, and its mark for each metric, None where nothing is paired."""

    name: str
    marks: list[Mark | None]


@dataclass(frozen=True)
class Block:
    """Settings beside the same reference, the best first."""

    reference: str
    trials: list[Trial] = field(default_factory=list)


@dataclass(frozen=True)
class Tried:
    """All settings of a study."""

    metrics: list[str]  # their titles
    reaches: list[str]  # an axis ends so far from 0
    blocks: list[Block]
    prior: bool  # whether the references lack it
    alone: list[str]  # settings without a counterpart

    @property
    def leading(self) -> list[tuple[str, Mark]]:
        """Settings by the first metric, the best first."""
        several = len(self.blocks) > 1
        marks = [
            (f"{trial.name} (against {block.reference})" if several else trial.name, mark)
            for block in self.blocks
            for trial in block.trials
            if (mark := trial.marks[0])
        ]
        return sorted(marks, key=lambda pair: -pair[1].value)

    @property
    def pairs(self) -> int:
        """The most that one setting has."""
        return max(mark.n for _, mark in self.leading)


def tried(cells: Sequence[Cell]) -> Tried | None:
    """Pair each cell with the prior by seed with that of the same settings without it.

    Where there is no such pair, cells are compared with the first. None if nothing can be paired.
    """
    pairs = _pairs(cells)
    both = pairs or [(cell, cells[0]) for cell in cells[1:]]
    wanted = deciding([run for cell in cells for run in cell.runs])
    told = [m for m in dict.fromkeys((*wanted, LAST)) if any(_gaps(*pair, m) for pair in both)]
    if not told:
        return None
    metrics = told[: max(1, len(told) - (LAST in told))]  # the online probe where nothing else is
    read = [(*pair, [_gaps(*pair, metric) for metric in metrics]) for pair in both]
    rows = [row for row in read if any(row[-1])]
    reaches = [
        max(abs(gap) for *_, gaps in rows for gap in gaps[i]) or 1e-9 for i in range(len(metrics))
    ]
    blocks: dict[str, Block] = {}
    for cell, base, gaps in rows:
        marks = list(map(_mark, metrics, gaps, reaches))
        block = blocks.setdefault(base.name, Block(base.name))
        block.trials.append(Trial(_own(cell, base), marks))
    for block in blocks.values():
        block.trials.sort(key=lambda trial: -next(mark.value for mark in trial.marks if mark))
    met = {cell.name for cell, *_ in rows}
    return Tried(
        list(map(title, metrics)),
        [signed(*each).lstrip("+") for each in zip(metrics, reaches, strict=True)],
        list(blocks.values()),
        bool(pairs),
        [cell.name for cell in cells if pairs and _with_prior(cell) and cell.name not in met],
    )


def story(found: Tried) -> str:
    """What came of a study, in a sentence or two."""
    marks, metric = found.leading, _lower(found.metrics[0])
    what = f"{len(marks)} setting{'s' if len(marks) != 1 else ''} tried"
    if found.pairs == 1:
        (best, high), (_, low) = marks[0], marks[-1]
        ends = f"from {low.text} to {high.text}" if len(marks) > 1 else high.text
        return (
            f"{what} with one pair of runs each: {metric} {ends}, highest with {best}. "
            "That says where to look and proves nothing."
        )
    told = []
    for verdict in ("helps", "hurts"):
        some = [f"{name}: {_long(mark)}" for name, mark in marks if mark.verdict == verdict]
        names = f" ({'; '.join(some[:3])}{'; …' * (len(some) > 3)})" if some else ""
        told.append(f"{len(some) or 'none'} clearly {VERDICTS[verdict]}{names}")
    return f"{what} with {found.pairs} pairs of seeds: by {metric}, {' and '.join(told)}."


def overall(found: Sequence[Tried]) -> str:
    """All studies in one sentence."""
    marks = [mark for each in found for _, mark in each.leading]
    told = [mark.verdict for mark in marks if mark.verdict != "single"]
    once = len(marks) - len(told)
    better, worse = told.count("helps"), told.count("hurts")
    least, most = (end((m.n for m in marks if m.n > 1), default=0) for end in (min, max))
    several = f"{least} to {most}" if least < most else str(most)
    parts = []
    if told:
        many = f"{len(told)} comparison{'s' if len(told) > 1 else ''}"
        parts.append(
            f"Of {many} over {several} pairs of seeds, {better or 'none'} "
            f"{'is' if better < 2 else 'are'} clearly better and {worse or 'none'} clearly worse."
        )
    if len(told) >= 20:
        parts.append(f"By chance alone, about {round(len(told) / 20)} would seem so.")
    if once:
        parts.append(
            f"{once} {'more ' if told else ''}comparison{'s rest' if once > 1 else ' rests'} on a "
            "single pair and can’t tell."
        )
    return " ".join(parts)


def _pairs(cells: Sequence[Cell]) -> list[tuple[Cell, Cell]]:
    bases: dict[tuple, Cell] = {}
    for cell in cells:
        if not _with_prior(cell):
            bases.setdefault(_bare(cell), cell)
    return [(c, bases[_bare(c)]) for c in cells if _with_prior(c) and _bare(c) in bases]


def _with_prior(cell: Cell) -> bool:
    return cell.runs[0].gamma > 0


def _bare(cell: Cell) -> tuple:
    """A cell's settings, but for the prior's."""
    return tuple(
        (key, str(value))
        for key, value in sorted(cell.runs[0].settings.items())
        if not key.startswith(IGNORED) and not of_prior(key)
    )


def _own(cell: Cell, base: Cell) -> str:
    """What tells a cell from its reference."""
    found = differing([cell.runs[0], base.runs[0]])
    named = {key: values[0] for key, values in found.items() if key in cell.settings}
    return cell_name(named or {key: values[0] for key, values in found.items()}) or cell.name


def _gaps(cell: Cell, base: Cell, metric: str) -> list[float]:
    one, other = (
        {run.seed: run.scores[metric] for run in each.runs if known(run.scores.get(metric))}
        for each in (cell, base)
    )
    return [score - other[seed] for seed, score in one.items() if seed in other]


def _mark(metric: str, gaps: list[float], reach: float) -> Mark | None:
    if not gaps:
        return None
    n, mean, low, high = interval(gaps)
    ends, between, verdict = None, "", "single"
    if low is not None and high is not None:
        ends = _place(low, reach), _place(high, reach)
        between = f"{signed(metric, low)} to {signed(metric, high)}"
        verdict = "helps" if low > 0 else "hurts" if high < 0 else "open"
    dots = [_place(gap, reach) for gap in gaps]
    text = signed(metric, mean)
    return Mark(mean, text, between, n, verdict, _place(mean, reach), ends, dots)


def _place(value: float, reach: float) -> float:
    return min(max(50 + 46 * value / reach, 0.0), 100.0)


def _long(mark: Mark) -> str:
    return f"{mark.text}, {mark.interval}, n = {mark.n}" if mark.interval else f"{mark.text}, n = 1"


def _lower(name: str) -> str:
    return name if name[:2].isupper() or name[1:2].isupper() else name[:1].lower() + name[1:]
