"""What is drawn of a group: curves, increments beside their law, jump maps, neighbours."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy import stats

from levyjepa import laws
from levyjepa.laws import CompoundPoisson
from levyjepa.report import figures, pictures
from levyjepa.report.cells import Cell, Group
from levyjepa.report.deciding import unit
from levyjepa.report.filmstrip import Film, Shown, films, objects
from levyjepa.report.folder import Run
from levyjepa.training import comparison

LOSSES = {
    "train/lejepa_loss": ("Total loss", "The weighted sum of the three terms."),
    "train/inv": ("Invariance", "How far apart views of one {unit} are."),
    "train/sigreg": ("SIGReg", "How far a batch of embeddings is from an isotropic Gaussian."),
    "train/levy": ("Lévy", "How far increments within each {unit} are from the law."),
    "train/probe_loss": ("Online probe", "Cross-entropy of a classifier trained alongside."),
    "test/acc": ("Test accuracy", "Of that online probe, on {unit}s never trained on."),
}
SHOWN = 10  # images of a gallery
NEARLY = 0.995  # of its changes lie below what is drawn as the largest


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
class Drawing:
    """A group's pictures; a part that its runs don't hold is empty."""

    name: str
    cells: list[Cell]
    curves: list[Panel]
    increments: list[Panel]
    seeds: dict[str, int]  # of the runs in pictures, by the name of a cell that has several
    rescaled: list[str]  # names of cells
    jumps: list[list[Tile]]  # strips
    likely: list[str]  # halves of sentences
    masks: list[list[Tile]]  # strips
    key: list[tuple[str, str]]  # classes of the masks and their colours
    films: list[Film]
    objects: list[str]  # colours of their objects
    neighbours: list[list[list[Tile]]]  # cards of rows
    agreement: list[str]  # sentences


def draw(group: Group) -> Drawing:
    """Draw a group; of each cell, the first run that has a gallery."""
    drawn = _firsts(group.cells, lambda run: run.gallery)
    pictured = drawn or _firsts(group.cells, lambda run: run.clips)
    return Drawing(
        group.name,
        group.cells,
        _curves(group.cells),
        [panel for cell, run in drawn for panel in _increments(cell, run)],
        {cell.name: run.seed for cell, run in pictured if len(cell.runs) > 1},
        [cell.name for cell, run in drawn if _rescaled(run)],
        _jumps(drawn),
        [told for cell, run in drawn if (told := _likely(cell, run))],
        *_masks(group.cells),
        _films(group.cells),
        next((objects(run.clips) for _, run in _firsts(group.cells, lambda run: run.clips)), []),
        _neighbours(drawn),
        [f"{cell.name}: {_agreement(run)}" for cell, run in drawn if _agreement(run)],
    )


def every_run(groups: list[Group]) -> list[Panel]:
    """A panel for each metric that tells runs apart, a dot for each run."""
    runs = [run for group in groups for cell in group.cells for run in cell.runs]
    metrics = dict.fromkeys(metric for run in runs for metric in run.scores)
    alone = all(len(group.cells) == 1 for group in groups)
    panels = []
    for metric in metrics:
        if comparison.is_baseline(metric) or not comparison.is_share(metric):
            continue
        dots = [
            figures.Dots(
                cell.name,
                cell.colour,
                0 if alone else number,
                {run.seed: run.scores[metric] for run in cell.runs if metric in run.scores},
            )
            for number, group in enumerate(groups)
            for cell in group.cells
            if any(metric in run.scores for run in cell.runs)
        ]
        n = sum(len(each.values) for each in dots)
        panels.append(Panel(comparison.title(metric), figures.every_run(dots), f"n = {n} runs."))
    return panels


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
            panels.append(Panel(title, svg, caption.format(unit=unit(runs[0]))))
    return panels


def _increments(cell: Cell, run: Run) -> list[Panel]:
    text = run.settings["objective.law"]
    law, variance = _law_samples(text)
    before, after = (
        _comparable(run.gallery[name], variance if _rescaled(run) else None)
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
    strips = []
    for together in _together(drawn, [run.gallery["images"] for _, run in drawn]):
        gallery = together[0][1].gallery
        for i, image in enumerate(gallery["images"][:SHOWN]):
            strip = [Tile(pictures.thumbnail(image), _class(gallery, gallery["labels"][i]))]
            strip += [
                Tile(
                    pictures.jump_map(image, strengths(run.gallery)[i]),
                    cell.name,
                    colour=cell.colour,
                )
                for cell, run in together
            ]
            strips.append(strip)
    return strips


def strengths(gallery: dict[str, np.ndarray]) -> np.ndarray:
    """How large the change is at each corner, as a share of nearly the largest shown.

    Galleries of earlier versions hold the probability of a jump alone.
    """
    if "jump_size" not in gallery:
        return gallery["jump_probability"].clip(0, 1)
    sizes = gallery["jump_size"][:SHOWN]
    return (sizes / max(np.quantile(sizes, NEARLY), 1e-9)).clip(0, 1)


def _likely(cell: Cell, run: Run) -> str:
    probability = run.gallery["jump_probability"][:SHOWN]
    if np.isnan(probability).any():  # the law names no jumps
        return ""
    return (
        f"{probability.mean():.2f} on average with {cell.name}, above one half at "
        f"{100 * (probability > 0.5).mean():.0f} % of corners"
    )


def _masks(cells: list[Cell]) -> tuple[list[list[Tile]], list[tuple[str, str]]]:
    """A strip for each judged image: it, its mask and each cell's; and the classes' colours."""
    firsts = _firsts(cells, lambda run: run.masks)
    strips, names = [], np.empty(0)
    for together in _together(firsts, [run.masks["images"] for _, run in firsts]):
        shown = together[0][1].masks
        names = shown["classes"] if len(shown["classes"]) > len(names) else names
        colours = pictures.classes(len(names))
        for i, image in enumerate(shown["images"]):
            strip = [
                Tile(pictures.thumbnail(image, 192), "image"),
                Tile(pictures.mask(image, shown["truth"][i], colours), "truth"),
            ]
            for cell, run in together:
                predicted = pictures.mask(image, run.masks["prediction"][i], colours)
                strip.append(Tile(predicted, cell.name, colour=cell.colour))
            strips.append(strip)
    key = list(zip(map(str, names), pictures.classes(len(names)), strict=True))
    return strips, [*key, ("void", pictures.VOID)] if strips else []


def _films(cells: list[Cell]) -> list[Film]:
    firsts = _firsts(cells, lambda run: run.clips)
    return [
        film
        for together in _together(firsts, [run.clips["frames"] for _, run in firsts])
        for film in films([Shown(cell.name, cell.colour, run.clips) for cell, run in together])
    ]


def _firsts(
    cells: list[Cell], held: Callable[[Run], dict[str, np.ndarray]]
) -> list[tuple[Cell, Run]]:
    """Of each cell, the first run that holds something."""
    found = [(cell, next(filter(held, cell.runs), None)) for cell in cells]
    return [(cell, run) for cell, run in found if run is not None]


def expected_jumps(text: str) -> str:
    """What share of cells of unit volume the law gives at least one jump, as a sentence."""
    parts = laws.parse(text).modules()
    rate = sum(float(part.rate) for part in parts if isinstance(part, CompoundPoisson))
    if not rate:
        return ""
    share = 100 * -np.expm1(-rate)
    return f"The law itself expects a jump at {share:.0f} % of corners (1 − exp(−{rate:g}))."


def _neighbours(drawn: list[tuple[Cell, Run]]) -> list[list[list[Tile]]]:
    """A card for each image: itself, then a row of neighbours for each cell."""
    cards = []
    for together in _together(drawn, [run.gallery["images"] for _, run in drawn]):
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


def _together(
    drawn: list[tuple[Cell, Run]], images: list[np.ndarray]
) -> list[list[tuple[Cell, Run]]]:
    """All runs side by side if their images are the same, each on its own otherwise."""
    if all(np.array_equal(each, images[0]) for each in images):
        return [drawn] if drawn else []
    return [[one] for one in drawn]


def _agreement(run: Run) -> str:
    labels, others = (run.gallery[name][:SHOWN] for name in ("labels", "neighbour_labels"))
    if not (labels >= 0).all():
        return ""
    return f"{int((others == labels[:, None]).sum())} of {others.size} neighbours share the class"


def _class(gallery: dict[str, np.ndarray], label: int) -> str:
    classes = gallery["classes"]
    return str(classes[label]) if 0 <= label < len(classes) else ""
