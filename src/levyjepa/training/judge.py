"""A network judged: what was found of it, and the files that the report shows."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from levyjepa.conf.compose import to_dict
from levyjepa.conf.schema import Config
from levyjepa.data import Source
from levyjepa.evaluation import Overlays, evaluate, gallery
from levyjepa.evaluation.filmstrip import filmstrips
from levyjepa.lattice import Stencil
from levyjepa.laws import Law
from levyjepa.models import Network
from levyjepa.training.comparison import BASELINES
from levyjepa.training.progress import stages

LOSS = ("prior", "gamma", "kappa", "lamb", "num_directions", "knots")  # no baseline's business


@dataclass(frozen=True)
class Judged:
    """What was found of a network, as `evaluation.json` holds it, and the files written of it."""

    found: dict[str, Any]
    written: list[Path]


def judge(
    network: Network,
    tested: dict[str, tuple[Stencil, Law]],
    config: Config,
    source: Source,
    device: str | torch.device,
    folder: Path | None = None,
    baselines: dict[str, Any] | None = None,
    followed: Path | None = None,
) -> Judged:
    """Evaluate a network, and write what the report shows of it into a run's folder.

    Args:
        network: What was trained.
        tested: Whose increments of its field are compared with which law, by name.
        config: Of the run, with the data that is judged.
        source: That data.
        device: Where networks compute.
        folder: Takes `gallery.npz`, of clips `clips.npz`, and `segmentation.npz` where there are
            masks.
        baselines: What was found of the untrained network and of pixels, by all that it depends
            on; read, or filled, so that runs that share them find them once.
        followed: Takes the masks of objects followed through sequences, if there are any.
    """
    where: Any = {"device": device, "seed": config.seed}
    written: list[Path] = []
    prior = config.objective.gamma > 0
    law = next(iter(tested.values()))[1]
    kept = {} if baselines is None else baselines
    shared = _shared(config)

    def show(name: str, shown: Overlays) -> None:
        if folder is not None and name == "network":
            shown.save(folder / "segmentation.npz")
            written.append(folder / "segmentation.npz")

    with stages(config.trainer.progress) as progress:
        if folder is not None and config.data.frames is None:
            progress("pictures for the report")
            shown = gallery(network, source, config.data, law, rescale=not prior, **where)
            shown.save(folder / "gallery.npz")
            written.append(folder / "gallery.npz")
        elif folder is not None:
            progress("clips for the report")
            shown = filmstrips(network, source, config.data, **where)
            shown.save(folder / "clips.npz")
            written.append(folder / "clips.npz")
        found = evaluate(
            network,
            source,
            config.data,
            law=law,
            tested=tested,
            prior=prior and config.objective.prior == "levy",
            views=config.views,
            progress=progress,
            show=show,
            baselines=kept.get(shared) if shared else None,
            followed=followed,
            **where,
        )
    if followed is not None and source.sequences:
        written.append(followed)
    if shared:
        kept[shared] = {name: found[name] for name in BASELINES if name in found}
    return Judged({"labelled": bool(source.classes)} | found, written)


def _shared(config: Config) -> str:
    """All that the baselines of a run depend on, as text; none where a law is learned."""
    if config.objective.learnable:
        return ""
    settings = to_dict(config)
    settings["objective"] = {k: v for k, v in settings["objective"].items() if k not in LOSS}
    return json.dumps([settings[key] for key in ("data", "views", "model", "objective", "seed")])
