"""`levyjepa evaluate`: what frozen features of a checkpoint are worth."""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from levyjepa.cli.command import Command, add_checkpoint, add_overrides, device, out
from levyjepa.cli.scores import show_scores


def _arguments(parser: ArgumentParser) -> None:
    add_checkpoint(parser)
    add_overrides(parser)


def _run(options: Namespace) -> int:
    from levyjepa.conf.compose import amend
    from levyjepa.data import load_source
    from levyjepa.training.checkpoint import checkpoint_file, load
    from levyjepa.training.judge import judge

    checkpoint = checkpoint_file(options.checkpoint)
    trained = load(checkpoint)
    config = amend(trained.config, options.overrides)
    source = load_source(config.data)
    run_dir = checkpoint.parent.parent
    own = (run_dir / "config.yaml").is_file() and _same(config.data, trained.config.data)
    path = checkpoint.with_suffix(f".{source.name}.json")
    judged = judge(
        trained.network,
        trained.tested,
        config,
        source,
        device(config),
        run_dir if own else None,
        followed=path.with_suffix(""),
    )
    path.write_text(json.dumps(judged.found, indent=2), "utf-8")
    show_scores(judged.found)
    out(f"written: {path}")
    if judged.written:
        out(f"written: {', '.join(map(str, judged.written))}")
    if own:
        out(f"`levyjepa report {run_dir}` draws its page from them")
    return 0


def _same(one: Any, other: Any) -> bool:
    """Whether two settings name the same images, wherever they lie."""
    one, other = ({**vars(each), "path": Path(each.path or "").name} for each in (one, other))
    return one == other


EVALUATE = Command(
    "Judge frozen features of a checkpoint, or of a run folder's last one: linear probe, kNN, few "
    "labels, masks. The numbers go beside the checkpoint, into NAME.DATA.json; evaluation.json, "
    "which says what the run itself found, stays. Of the run's own data, the pictures of its "
    "report (gallery.npz or clips.npz, segmentation.npz) are made anew.",
    "levyjepa evaluate runs/first",
    _arguments,
    _run,
)
