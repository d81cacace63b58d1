"""What a page begins with: no more than the numbers allow."""

from collections.abc import Sequence

from levyjepa.report.cells import Cell, data_name
from levyjepa.report.deciding import LAST, deciding, follows, unit
from levyjepa.report.folder import Run, average, chance
from levyjepa.report.numbers import known, percent, plain, signed
from levyjepa.report.terms import SPOKEN
from levyjepa.training.comparison import Comparison, Difference, is_share, title

LEADING = ("linear_probe", "segmentation/miou", LAST)
NAMES = {"random_encoder": "an untrained encoder", "pixels": "raw pixels"}
STANDING = {
    "linear_probe": "a linear probe on the frozen features gets {} of {} right",
    "segmentation/miou": "a linear head on the frozen tokens segments {1} with a mean IoU of {0}",
    "tracking/there": "objects followed from their first mask by their tokens get a J&F of {} in "
    "the frames that show them",
    "tracking/j_and_f": "objects followed from their first mask by their tokens get a J&F of {}",
    "jumps/tokens/objects/average_precision": "jumps at objects, told from smooth motion by the "
    "size of tokens’ steps, are found with an average precision of {}",
}


def leading(found: Comparison, runs: Sequence[Run]) -> list[Difference]:
    """The differences that a page begins with, along their first side.

    Those of one metric, or, where objects were followed, the first of each of two.
    """
    told: list[Difference] = []
    for metric in deciding(runs)[:2] if follows(runs) else ():
        told += _along(found, metric)[:1]
    for metric in [*LEADING, *(row.metric for row in found.differences)]:
        told = told or _along(found, metric)[:3]
    return told


def difference_sentence(row: Difference) -> str:
    """What a paired difference lets one say, no more."""
    gap = _amount(row.metric, row.mean)
    against = f"{_plainly(row.a)} against {_plainly(row.b)}"
    low, high = row.low, row.high
    if row.n < 2 or not (known(low) and known(high)):
        return (
            f"{against}: {gap} from one pair of runs, which gives no interval, "
            "so no difference can be claimed."
        )
    bounds = " to ".join(signed(row.metric, bound) for bound in (low, high))
    interval = f"{row.n} pairs of seeds give a 95 % interval of {bounds}"
    if low <= 0 <= high:
        return f"{against}: {gap}. {interval}, which covers zero: no difference can be claimed."
    effect = f", an effect size d_z of {row.d_z:.1f}".replace("-", "−") if known(row.d_z) else ""
    few = " With so few seeds, take it as a first sign." if row.n < 5 else ""
    return f"{against}: {gap}. {interval}, all on one side of zero{effect}.{few}"


def beside_sentence(metric: str, cells: Sequence[Cell]) -> str:
    """The means of all settings, and what they must be compared with."""
    runs = [run for cell in cells for run in cell.runs]
    means = sorted(value for cell in cells if (value := average(cell.runs, metric)) is not None)
    low, high = (plain(metric, value) for value in (means[0], means[-1]))
    ends = low if low == high else f"{low.removesuffix(' %')} to {high}"
    told = [f"the mean of a setting is {ends}"]
    told += [f"{name} {plain(metric, value)}" for name, value in _others(runs, metric)]
    return f"In all, {told[0]}; {', '.join(told[1:])}." if told[1:] else ""


def chance_sentence(found: Comparison) -> str:
    """How many intervals of differences miss zero, beside what chance gives."""
    bounds = [(row.low, row.high) for row in found.differences]
    sides = [low > 0 or high < 0 for low, high in bounds if known(low) and known(high)]
    if len(sides) < 10:
        return ""
    return (
        f"Of {len(sides)} differences with an interval, {sum(sides)} miss zero; where nothing "
        f"differs, one in twenty does by chance, about {round(len(sides) / 20)} here."
    )


def standing_sentences(cell: Cell) -> list[str]:
    """How a cell's frozen features compare with an untrained encoder, raw pixels and chance."""
    metrics = [metric for metric in deciding(cell.runs) if metric in STANDING]
    metrics = [metric for metric in metrics if average(cell.runs, metric) is not None]
    told = [_standing(cell, m) for m in (metrics if follows(cell.runs) else metrics[:1])]
    first, rest = told[:1], [f"{each[:1].upper()}{each[1:]}" for each in told[1:]]
    return [f"With {cell.name}, {each}" for each in first] + rest


def trained_sentence(runs: Sequence[Run]) -> str:
    """What was trained on what and for how long, as far as all runs share it."""
    first = runs[0]
    what = f"{unit(first)}s"
    if frames := _same(runs, "data.frames"):
        what += f" of {frames} frames"
    size = _same(runs, "data.image_size")
    what += f", {size} × {size} pixels" if size else ""
    told = []
    each = max(run.steps_per_epoch for run in runs) * (_same(runs, "data.batch_size") or 0)
    number = f"about {float(f'{each:.2g}'):,.0f} " if each else ""
    told.append(f"{number}training {what}")
    if epochs := _same(runs, "trainer.max_epochs"):
        steps = {run.steps for run in runs if run.finished}
        batch = _same(runs, "data.batch_size")
        much = f" ({steps.pop():,} steps of {batch} {unit(first)}s)" if len(steps) == 1 else ""
        told.append(f"{epochs} epoch{'s' if epochs != 1 else ''}{much}")
    if name := _same(runs, "model.name"):
        size = first.parameters
        told.append(f"{name}{f' with {_large(size)} parameters' if size else ''}")
    if parts := _parts(runs):
        told.append(f"the prior on {parts} alone")
    seeds = sorted({run.seed for run in runs})
    many = seeds == list(range(seeds[0], seeds[-1] + 1)) and len(seeds) > 2
    several = f"{seeds[0]} to {seeds[-1]}" if many else ", ".join(map(str, seeds))
    told.append(f"seed{'s' if len(seeds) > 1 else ''} {several}")
    each = "Each trained" if len(runs) > 1 else "Trained"
    where = " and ".join(dict.fromkeys(map(data_name, runs)))
    return f"{each} on {where}: {'; '.join(told)}."


def _along(found: Comparison, metric: str) -> list[Difference]:
    rows = [row for row in found.differences if row.metric == metric]
    sides = [row.side for row in rows]
    return [row for row in rows if row.side == ("gamma" if "gamma" in sides else sides[0])]


def _others(runs: Sequence[Run], metric: str) -> list[tuple[str, float]]:
    held = [(name, average(runs, f"{key}/{metric}")) for key, name in NAMES.items()]
    held.append(("chance", chance(runs, metric)))
    return [(name, value) for name, value in held if value is not None]


def _standing(cell: Cell, metric: str) -> str:
    mine = average(cell.runs, metric)
    assert mine is not None
    leaves = [run.leaf(metric) for run in cell.runs if metric in run.scores]
    leaf, run = leaves[0], cell.runs[0]
    where = data_name(run)
    if metric == "linear_probe":
        where = f"{leaf.get('n', 0):,} test {unit(run)}s of {where}"
    sentence = STANDING[metric].format(percent(mine), where)
    sentence += f" on average over {len(leaves)} runs" if len(leaves) > 1 else ""
    if len(leaves) == 1 and known(leaf.get("low")):
        sentence += f" (95 % interval {percent(leaf['low'])} to {percent(leaf['high'])})"
    against = []
    for name, base in _others(cell.runs, metric):
        side = "above" if mine > base else "below" if mine < base else "from"
        own = name if name == "chance" else f"{name}’" if name.endswith("s") else f"{name}’s"
        gap = f"{100 * abs(mine - base):.1f}"
        against.append(f"{gap} points {side} {own} {percent(base)}")
    return sentence + (f", {_listed(against)}." if against else ".")


def _listed(texts: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(texts[:-1]), texts[-1])))


def _same(runs: Sequence[Run], key: str):
    """A setting that all runs share, None otherwise."""
    values = [run.settings.get(key) for run in runs]
    return values[0] if all(value == values[0] for value in values) else None


def _parts(runs: Sequence[Run]) -> str:
    """Of clips, the kinds of increments that the prior is on; nothing if it is on all."""
    kinds = ("space", "time", "spacetime")
    weights = [_same(runs, f"objective.{kind}.weight") for kind in kinds]
    on = [kind for kind, weight in zip(kinds, weights, strict=True) if weight]
    some = unit(runs[0]) == "clip" and None not in weights and len(on) < len(kinds)
    return _listed(on) if some and on and all(run.gamma for run in runs) else ""


def _large(count: int) -> str:
    return f"{count / 1e6:.3g} million" if count >= 1e6 else f"{count:,}"


def _plainly(name: str) -> str:
    """A cell's name, with gamma in words."""
    settings = dict(part.split("=", 1) for part in name.split(", ") if "=" in part)
    if "gamma" not in settings:
        return name
    words = "LeJEPA alone" if settings["gamma"] in ("0", "0.0") else "LeJEPA with the Lévy prior"
    return f"{words} ({name})"


def _amount(metric: str, value: float) -> str:
    name = title(metric).replace(", ", " ")
    name = SPOKEN.get(metric) or name[:1].lower() + name[1:]
    unit = "percentage points of" if is_share(metric) else "in"
    return f"{signed(metric, value)} {unit} {name}"
