"""The command line; heavy imports wait until a command needs them."""

import argparse
import json
import logging
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

USAGE = {
    "train": (
        "Train one run and evaluate it, into a run folder.",
        "levyjepa train data=mnist5k objective.gamma=1 run_dir=runs/first",
    ),
    "experiment": (
        "Train a paired grid of runs, then compare them; finished cells are kept. Cells run one "
        "after another, or side by side with hydra/launcher=joblib (pip install "
        "hydra-joblib-launcher; hydra.launcher.n_jobs=2), or on a cluster with "
        "hydra/launcher=submitit_slurm (pip install hydra-submitit-launcher; "
        "hydra.launcher.partition=NAME hydra.launcher.gpus_per_node=1).",
        "levyjepa experiment experiment=demo seed=0,1,2",
    ),
    "evaluate": (
        "Judge frozen features of a checkpoint, or of a run folder's last one: linear probe, kNN, "
        "few labels, masks. Of the run's own data, the pictures of its report are made anew.",
        "levyjepa evaluate runs/first",
    ),
    "jumps": (
        "Draw over images where the field changes most, at every patch corner (PNG), and write the "
        "probability of a jump there (.npy).",
        "levyjepa jumps runs/first photo.jpg --out jumps",
    ),
    "diagnose": (
        "Ask a frozen ViT's patch tokens whether they follow a Lévy law, and which: a checkpoint "
        "or run folder, a ViT of timm (with pretrained=true its weights), a transformers folder.",
        "levyjepa diagnose vit_small_patch8_224 data=mnist5k layers=6,12 run_dir=runs/vit",
    ),
    "events": (
        "Find the frames at which a video's shots begin, a file's or those of a folder of pictures "
        "(rate=25 a second): events.json, shots.csv and timeline.png in run_dir. Frames are "
        "described by their colours, or with checkpoint=C by a trained network.",
        "levyjepa events video.mp4 run_dir=runs/video",
    ),
    "report": (
        "Draw a run's or an experiment's report.html anew. Several folders give one page: runs "
        "that differ in settings are its cells, paired where they share seeds.",
        "levyjepa report runs/demo",
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status.

    0 is for success, 1 for an experiment with failed cells, 2 for an error, 130 for Ctrl-C.
    """
    parser = _parser()
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given:
        parser.print_help()
        return 0
    options, unknown = parser.parse_known_args(given)
    if unknown:
        parser.error(_unrecognised(unknown))
    options.given = given
    options.debug = options.debug or bool(os.environ.get("LEVYJEPA_DEBUG"))
    logging.basicConfig(format="%(message)s")
    logging.getLogger("levyjepa").setLevel(logging.DEBUG if options.debug else logging.INFO)
    try:
        return options.run(options)
    except KeyboardInterrupt as interruption:
        text = str(interruption) or "Interrupted."
        _say(f"{text}\nTo go on: {_again(options, interruption)}")
        return 130
    except Exception as error:
        if options.debug:
            raise
        plain = isinstance(error, (ValueError, TypeError, OSError, RuntimeError))
        kind = "" if plain else f"{type(error).__name__}: "
        _say(f"levyjepa {options.command}: {kind}{' '.join(str(error).split())}")
        return 2


def _train(options: argparse.Namespace) -> int:
    from levyjepa.conf.compose import compose
    from levyjepa.conf.explain import explain

    config = compose(options.overrides)
    if options.settings:
        _out(explain(config))
        return 0
    from levyjepa.training.run import train

    _quieten(options)
    result = train(config)
    if not _first():
        return 0
    from levyjepa.report import run_report

    if result.kept:
        _say(f"{result.run_dir} was finished before and is kept as it is.")
    for name, value in (("last", result.online_last), ("best", result.online_best)):
        if value is not None:
            _out(f"online probe, {name}: {100 * value:.2f} %")
    _scores(result.evaluation)
    if not result.evaluation:
        _say("Not evaluated; the same command with trainer.evaluate=true does it.")
    _out(f"report: {run_report(result.run_dir)}")
    return 0


def _experiment(options: argparse.Namespace) -> int:
    from levyjepa.training.experiment import markdown, run_experiment

    _quieten(options)
    result = run_experiment(options.overrides)
    from levyjepa.report import experiment_report, run_report

    done = [cell for cell in result.cells if cell.status == "finished"]
    for cell in done:
        run_report(cell.run_dir)
    _out(markdown(result))
    if done:
        _out(f"report: {experiment_report(result.directory)}")
    return 0 if len(done) == len(result.cells) else 1


def _evaluate(options: argparse.Namespace) -> int:
    from levyjepa.conf.compose import amend
    from levyjepa.data import load_source
    from levyjepa.training.run import checkpoint_file, judge, load

    checkpoint = checkpoint_file(options.checkpoint)
    trained = load(checkpoint)
    config = amend(trained.config, options.overrides)
    source = load_source(config.data)
    run_dir = checkpoint.parent.parent
    own = (run_dir / "config.yaml").is_file() and _same(config.data, trained.config.data)
    found = judge(
        trained.network, trained.tested, config, source, _device(config), run_dir if own else None
    )
    path = checkpoint.with_suffix(f".{source.name}.json")
    path.write_text(json.dumps(found, indent=2), "utf-8")
    _scores(found)
    _out(f"written: {path}")
    return 0


def _same(one: Any, other: Any) -> bool:
    """Whether two settings name the same images, wherever they lie."""
    one, other = ({**vars(each), "path": Path(each.path or "").name} for each in (one, other))
    return one == other


def _jumps(options: argparse.Namespace) -> int:
    import numpy as np

    from levyjepa.report import draw_jumps
    from levyjepa.training.jumps import read_jumps
    from levyjepa.training.run import load

    trained = load(options.checkpoint).of_images()
    for path in options.images:
        found = read_jumps(trained, path)
        options.out.mkdir(parents=True, exist_ok=True)
        target = options.out / path.stem
        np.save(target.with_suffix(".npy"), found.probability)
        draw_jumps(found.image, found.change, target.with_suffix(".png"))
        _out(f"{path}: {target.with_suffix('.png')}, {target.with_suffix('.npy')}")
    return 0


def _diagnose(options: argparse.Namespace) -> int:
    from levyjepa.report.diagnosis import short_table, write_diagnosis
    from levyjepa.training.diagnosis import diagnose_model

    found = diagnose_model(options.model, options.overrides, _say)
    page = write_diagnosis(found)
    _out(f"{short_table(found)}\nreport: {page}")
    return 0


def _events(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import track

    from levyjepa.data.video import Video, read_frames
    from levyjepa.evaluation.events import embed_by, find_events, write_events
    from levyjepa.report.timeline import draw_timeline, pictured

    given = {"run_dir": f"runs/{Path(options.video).stem}", "checkpoint": "", "rate": "25"}
    for override in options.overrides:
        key, _, value = override.partition("=")
        if key not in given or not value:
            raise ValueError(f"Settings of events are {', '.join(given)}, got {override!r}.")
        given[key] = value
    size, embed = (32, 32), None
    if given["checkpoint"]:
        from levyjepa.training.run import load

        trained = load(given["checkpoint"])
        size = (trained.config.data.image_size, trained.config.data.image_size)
        embed = embed_by(trained.network.encoder, trained.mean, trained.std)
    video = Video(options.video, rate=float(given["rate"]))
    frames = read_frames(options.video, size, float(given["rate"]))
    found = find_events(
        track(frames, "frames", len(video), console=Console(stderr=True), transient=True), embed
    )
    pictures = [video.take([found.shots[shot].start])[0] for shot in pictured(found)]
    folder = Path(given["run_dir"])
    write_events(found, folder)
    draw_timeline(found, pictures, folder / "timeline.png")
    for event in found.events:
        _out(f"frame {event.frame}, {event.time:.3f} s: a shot begins, p = {event.probability:.3f}")
    shots = f"{len(found.shots)} shot{'s'[: len(found.shots) > 1]}"
    _out(f"{shots}: {folder / 'events.json'}, shots.csv, timeline.png")
    return 0


def _report(options: argparse.Namespace) -> int:
    from levyjepa.report import compare_report, experiment_report, run_report

    if len(options.dirs) > 1:
        _out(f"report: {compare_report(options.dirs, options.out)}")
        return 0
    only = options.dirs[0]
    draw: Callable[[Path], Path] = (
        run_report if (only / "config.yaml").is_file() else experiment_report
    )
    _out(f"report: {draw(only)}")
    return 0


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show where an error came from")
    parser = argparse.ArgumentParser(
        prog="levyjepa",
        description="LeJEPA with a Lévy prior on the patch embeddings of an image.",
        epilog="Settings are Hydra overrides, as objective.gamma=0 data=cifar10 data.path=FOLDER; "
        f"`levyjepa train --settings` lists them all. Presets: {_presets()}.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    runs = {
        "train": _train,
        "experiment": _experiment,
        "evaluate": _evaluate,
        "jumps": _jumps,
        "diagnose": _diagnose,
        "events": _events,
        "report": _report,
    }
    made: dict[str, argparse.ArgumentParser] = {}
    for name, run in runs.items():
        text, example = USAGE[name]
        made[name] = commands.add_parser(
            name, help=text, description=text, epilog=f"Example: {example}", parents=[common]
        )
        made[name].set_defaults(run=run)
    text = "print every setting that these overrides give, and stop"
    made["train"].add_argument("--settings", action="store_true", help=text)
    for name in ("evaluate", "jumps"):
        made[name].add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    made["jumps"].add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    made["jumps"].add_argument("--out", type=Path, default=Path("jumps"), help="folder (jumps)")
    made["report"].add_argument("dirs", type=Path, nargs="+", metavar="DIR")
    made["diagnose"].add_argument("model", metavar="MODEL")
    page = Path("comparison.html")
    made["report"].add_argument("--out", type=Path, default=page, help=f"of several ({page})")
    made["events"].add_argument("video", metavar="VIDEO")
    for name in ("train", "experiment", "evaluate", "diagnose", "events"):
        made[name].add_argument(
            "overrides", nargs="*", metavar="KEY=VALUE", help="settings to change, Hydra's way"
        )
    return parser


def _presets() -> str:
    groups: dict[str, list[str]] = {}
    for path in sorted((Path(__file__).parent / "conf").glob("*/*.yaml")):
        groups.setdefault(path.parent.name, []).append(path.stem)
    return "; ".join(f"{group}={'|'.join(names)}" for group, names in groups.items())


def _again(options: argparse.Namespace, interruption: KeyboardInterrupt) -> str:
    overrides = list(getattr(options, "overrides", []))
    run_dir: Any = getattr(interruption, "run_dir", None)
    if options.command == "train" and run_dir:
        overrides = [o for o in overrides if not o.startswith("run_dir=")] + [f"run_dir={run_dir}"]
        return shlex.join(["levyjepa", options.command, *overrides])
    return shlex.join(["levyjepa", *options.given])


def _unrecognised(words: list[str]) -> str:
    """What to write instead of an option that is a setting."""
    from levyjepa.conf.compose import known_keys

    text = f"unrecognized arguments: {' '.join(words)}"
    name, _, value = words[0].lstrip("-").replace("-", "_").partition("=")
    keys = [key for key in known_keys() if name in (key, key.rsplit(".", 1)[-1])]
    return f"{text}; a setting has no dashes: {keys[0]}={value or 'VALUE'}" if keys else text


def _scores(found: dict[str, Any]) -> None:
    from levyjepa.training.comparison import is_share, scores

    for metric, value in scores(found).items():
        if is_share(metric):
            _out(f"{metric.replace('/', ', ').replace('_', ' ')}: {100 * value:.2f} %")
    if found.get("representation", {}).get("collapsed"):
        _say("The embeddings have collapsed: they lie on a point or a line.")


def _device(config: Any) -> str:
    import torch

    gpu = config.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return "cuda" if gpu else "cpu"


def _quieten(options: argparse.Namespace) -> None:
    """Lightning sets its level when it is imported; its hints are no news here."""
    if not options.debug:
        warnings.simplefilter("ignore")
        for name in ("lightning.pytorch", "lightning.fabric"):
            logging.getLogger(name).setLevel(logging.ERROR)


def _first() -> bool:
    from lightning.pytorch.utilities import rank_zero_only

    return rank_zero_only.rank == 0


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _out(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
