"""One self-contained page from run folders."""

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import torch
from scipy import stats

from levyjepa import laws
from levyjepa.report import figures, pictures, table
from levyjepa.report.cells import Cell, Group, cell_name, data_name, differing, grouped
from levyjepa.report.folder import Run, read_json, read_run

LOSSES = {
    "train/lejepa_loss": ("Total loss", "The weighted sum of the three terms."),
    "train/inv": ("Invariance", "How far apart views of one image are."),
    "train/sigreg": ("SIGReg", "How far a batch of embeddings is from an isotropic Gaussian."),
    "train/levy": ("Lévy", "How far increments within an image are from the law."),
    "train/probe_loss": ("Online probe", "Cross-entropy of a classifier trained alongside."),
    "test/acc": ("Test accuracy", "Of that online probe, on images never trained on."),
}
SHOWN = 10  # images of a gallery


@dataclass(frozen=True)
class Panel:
    """A drawing with a head above and a sentence below."""

    title: str
    svg: str
    caption: str


@dataclass(frozen=True)
class Tile:
    """A small picture and what it is."""

    source: str
    caption: str
    kind: str = ""  # right, wrong: a neighbour's class
    colour: str = ""


@dataclass(frozen=True)
class Pictures:
    """What is drawn of one group."""

    name: str
    cells: list[Cell]
    curves: list[Panel] = field(default_factory=list)
    increments: list[Panel] = field(default_factory=list)
    rescaled: list[str] = field(default_factory=list)
    jumps: list[list[Tile]] = field(default_factory=list)
    neighbours: list[list[list[Tile]]] = field(default_factory=list)
    agreement: list[str] = field(default_factory=list)


def run_report(run_dir: str | Path) -> Path:
    """Write `report.html` into a run folder and return its path.

    Raises:
        FileNotFoundError: the folder holds no `config.yaml`.
    """
    run = read_run(run_dir)
    groups = grouped([run])
    cell = groups[0].cells[0]
    prior = f"with the Lévy prior ({cell.name})" if run.gamma else "without the prior (gamma=0)"
    lead = table.standing_sentence(cell) or (
        f"LeJEPA {prior} on {data_name(run)}, trained for {_epochs(run)}."
    )
    title = f"LeJEPA {prior} on {data_name(run)}"
    return _write(run.folder / "report.html", title, [lead], groups, table.run_table([cell]))


def experiment_report(directory: str | Path) -> Path:
    """Write `report.html` into an experiment folder and return its path.

    Raises:
        FileNotFoundError: none of its sub-folders is a run folder.
    """
    directory = Path(directory)
    runs = _runs_below(directory)
    if not runs:
        raise FileNotFoundError(f"An experiment folder holds run folders, got {directory}.")
    found = read_json(directory / "experiment.json")
    groups = grouped(runs)
    cells = [cell for group in groups for cell in group.cells]
    compared = [row for row in found.get("differences", []) if row["metric"] == "linear_probe"]
    lead = [table.difference_sentence(row) for row in compared or found.get("differences", [])[:1]]
    lead += [sentence for cell in cells[-1:] if (sentence := table.standing_sentence(cell))]
    lead = lead or [f"{len(cells)} settings on {data_name(runs[0])}; none is evaluated yet."]
    title = f"{found.get('name', directory.name)}: {_against(cells)} on {data_name(runs[0])}"
    numbers = table.experiment_table(cells, found)
    warnings = [
        f"{cell_name(cell['overrides'])}, seed {cell['overrides'].get('seed', 0)}: "
        f"{cell['status']}. {cell.get('error') or ''}"
        for cell in found.get("cells", [])
        if cell.get("status", "finished") != "finished"
    ]
    return _write(directory / "report.html", title, lead, groups, numbers, warnings, found)


def compare_report(dirs: list[str | Path], out: str | Path) -> Path:
    """Write one page about several run or experiment folders to `out` and return its path.

    Raises:
        ValueError: no folder is given.
        FileNotFoundError: a folder neither is a run folder nor holds one.
    """
    if not dirs:
        raise ValueError("`dirs` must name at least one run folder, got none.")
    runs = []
    for each in map(Path, dirs):
        inside = [] if (each / "config.yaml").is_file() else _runs_below(each)
        runs += inside or [read_run(each)]
    groups = grouped(runs)
    cells = [cell for group in groups for cell in group.cells]
    lead = [sentence for cell in cells if (sentence := table.standing_sentence(cell))]
    lead = lead or [f"{len(runs)} runs on {data_name(runs[0])}; none is evaluated yet."]
    title = f"{len(runs)} runs compared"
    return _write(Path(out), title, lead, groups, table.run_table(cells))


def _write(
    path: Path,
    title: str,
    lead: list[str],
    groups: list[Group],
    numbers: table.Table | None,
    warnings: list[str] | None = None,
    found: dict[str, Any] | None = None,
) -> Path:
    runs = [run for group in groups for cell in group.cells for run in cell.runs]
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["shade"] = lambda colour: figures.VARIABLES.get(colour, colour)
    template = environment.from_string(Path(__file__).with_name("page.html").read_text("utf-8"))
    path.write_text(
        template.render(
            title=title,
            lead=lead,
            warnings=[*(warnings or []), *(note for run in runs if (note := _unfinished(run)))],
            labelled=any(run.labelled for run in runs),
            evaluated=any("linear_probe" in run.evaluation for run in runs),
            numbers=numbers,
            averaged=bool(found and found.get("table")),
            pictures=[_pictures(group) for group in groups],
            palette=list(enumerate(figures.PALETTE)),
            ramp=", ".join(pictures.ramp()),
            law=runs[0].settings.get("objective.law", ""),
            differing=differing(runs),
            runs=runs,
        ),
        "utf-8",
    )
    return path


def _pictures(group: Group) -> Pictures:
    first = [(cell, cell.runs[0]) for cell in group.cells]
    drawn = [(cell, run) for cell, run in first if "images" in run.gallery]
    measured = [(cell, run) for cell, run in first if len(run.gallery.get("increments", ()))]
    return Pictures(
        group.name,
        group.cells,
        _curves(group.cells),
        [panel for cell, run in measured for panel in _increments(cell, run)],
        [cell.name for cell, run in measured if _rescaled(run)],
        _jumps(drawn),
        _neighbours(drawn),
        [f"{cell.name}: {_agreement(run)}" for cell, run in drawn if _agreement(run)],
    )


def _curves(cells: list[Cell]) -> list[Panel]:
    runs = [run for cell in cells for run in cell.runs]
    axis = "step" if max(run.epochs for run in runs) < 3 else "epoch"
    panels = []
    for name, (title, caption) in LOSSES.items():
        series = [
            figures.Series(cell.colour, [c for run in cell.runs if len(c := run.curve(name, axis))])
            for cell in cells
        ]
        series = [each for each in series if each.curves]
        if series:
            svg = figures.learning_curves(series, axis, percent=name == "test/acc")
            panels.append(Panel(title, svg, caption))
    return panels


def _increments(cell: Cell, run: Run) -> list[Panel]:
    text = run.settings["objective.law"]
    law, variance = _law_samples(text)
    before, after = (
        _comparable(run.gallery.get(name, np.empty(0)), variance if _rescaled(run) else None)
        for name in ("increments_before", "increments")
    )
    tails = [
        f"{name} {_number(stats.kurtosis(sample))}"
        for name, sample in (("at the start", before), ("after training", after), ("law", law))
        if len(sample)
    ]
    return [
        Panel(
            f"{cell.name}: how often each size occurs",
            figures.density(law, before, after, cell.colour),
            f"Excess kurtosis, the weight of the tails: {', '.join(tails)}.",
        ),
        Panel(
            f"{cell.name}: quantile against quantile",
            figures.quantiles(law, before, after, cell.colour),
            "On the diagonal, increments have exactly the law.",
        ),
    ]


def _rescaled(run: Run) -> bool:
    return not run.gamma and _law_samples(run.settings["objective.law"])[1] is not None


def _number(value: float) -> str:
    return f"{round(value, 1) + 0.0:.1f}".replace("-", "−")


@lru_cache(maxsize=4)
def _law_samples(text: str) -> tuple[np.ndarray, float | None]:
    """Samples of a law, and its variance where it has a finite one."""
    law = laws.parse(text)
    with torch.no_grad():
        samples = law.sample((200_000,), generator=torch.Generator().manual_seed(0))
        variance = float(law.variance())
        return samples.numpy(), variance if np.isfinite(variance) else None


def _comparable(sample: np.ndarray, variance: float | None) -> np.ndarray:
    """Finite values, scaled to have `variance` where that can be."""
    sample = sample[np.isfinite(sample)].astype(float)
    spread = sample.std() if len(sample) else 0.0
    return sample * np.sqrt(variance) / spread if variance and spread else sample


def _jumps(drawn: list[tuple[Cell, Run]]) -> list[list[Tile]]:
    """A strip for each image: it, and the map of each cell; a strip for each cell, if its own."""
    drawn = [(cell, run) for cell, run in drawn if "jump_probability" in run.gallery]
    strips = []
    for together in [drawn] if _same_images(drawn) else [[one] for one in drawn]:
        gallery = together[0][1].gallery
        for i, image in enumerate(gallery["images"][:SHOWN]):
            strip = [Tile(pictures.thumbnail(image), _class(gallery, gallery["labels"][i]))]
            strip += [
                Tile(
                    pictures.jump_map(image, run.gallery["jump_probability"][i].clip(0, 1)),
                    cell.name,
                    colour=cell.colour,
                )
                for cell, run in together
            ]
            strips.append(strip)
    return strips


def _neighbours(drawn: list[tuple[Cell, Run]]) -> list[list[list[Tile]]]:
    """A card for each image: itself, then a row of neighbours for each cell."""
    drawn = [(cell, run) for cell, run in drawn if "neighbours" in run.gallery]
    cards = []
    for together in [drawn] if _same_images(drawn) else [[one] for one in drawn]:
        gallery = together[0][1].gallery
        for i, image in enumerate(gallery["images"][:SHOWN]):
            label = gallery["labels"][i]
            card = [[Tile(pictures.thumbnail(image), _class(gallery, label))]]
            for cell, run in together:
                pairs = zip(
                    run.gallery["neighbours"][i], run.gallery["neighbour_labels"][i], strict=True
                )
                card.append(
                    [
                        Tile(
                            pictures.thumbnail(picture),
                            _class(gallery, other),
                            "" if label < 0 else "right" if other == label else "wrong",
                            cell.colour,
                        )
                        for picture, other in pairs
                    ]
                )
            cards.append(card)
    return cards


def _same_images(drawn: list[tuple[Cell, Run]]) -> bool:
    images = [run.gallery["images"] for _, run in drawn]
    return bool(images) and all(np.array_equal(each, images[0]) for each in images)


def _agreement(run: Run) -> str:
    labels, others = run.gallery.get("labels"), run.gallery.get("neighbour_labels")
    if labels is None or others is None or not (labels >= 0).all():
        return ""
    return f"{int((others == labels[:, None]).sum())} of {others.size} neighbours share the class"


def _class(gallery: dict[str, np.ndarray], label: int) -> str:
    classes = gallery.get("classes", ())
    return str(classes[label]) if 0 <= label < len(classes) else ""


def _against(cells: list[Cell]) -> str:
    names = [cell.name for cell in cells]
    return " against ".join(names) if len(names) <= 2 else f"{len(names)} settings"


def _epochs(run: Run) -> str:
    return f"{run.epochs} epoch{'s' if run.epochs != 1 else ''}"


def _unfinished(run: Run) -> str:
    planned = run.settings.get("trainer.max_epochs", 0)
    if run.finished:
        return ""
    done = f"{_epochs(run)} of {planned}" if planned else _epochs(run)
    return f"{run.folder.name} is unfinished: {done} logged, and nothing evaluated."


def _runs_below(directory: Path) -> list[Run]:
    return [read_run(path.parent) for path in sorted(directory.glob("*/config.yaml"))]
