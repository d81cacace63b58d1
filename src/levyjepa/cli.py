"""The command line: one command, one function. Heavy imports wait until a command needs them."""

import logging
import os
import shlex
import sys
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from levyjepa import __version__


@dataclass(frozen=True)
class Command:
    """A command: what `--help` says, its arguments and what it does."""

    help: str
    example: str
    run: Callable[[Namespace], int]
    arguments: list[tuple[tuple[str, ...], dict[str, Any]]] = field(default_factory=list)


COMMANDS: dict[str, Command] = {}


def command(help: str, example: str, *arguments: tuple[tuple[str, ...], dict[str, Any]]) -> Any:
    """Return a decorator that makes a function a command of its name."""

    def decorate(run: Callable[[Namespace], int]) -> Callable[[Namespace], int]:
        COMMANDS[run.__name__] = Command(help, example, run, list(arguments))
        return run

    return decorate


def argument(*names: str, **options: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return an argument as `ArgumentParser.add_argument` takes it."""
    return names, options


WORDS = argument("words", nargs="*", metavar="KEY=VALUE", help="settings; see `train --settings`")
MODEL = argument(
    "model",
    metavar="MODEL",
    help="a run folder or a checkpoint; a file with a state dict of a ViT of timm, also within a "
    "model of another framework; a folder or hub id of transformers; a ViT of timm by name",
)
PRETRAINED = argument(
    "--pretrained", action="store_true", help="fetch timm's weights of a name (random otherwise)"
)


@command(
    "Train one run and evaluate it, into a run folder. The same command continues a run that was "
    "interrupted, and leaves a finished one as it is. model.weights=MODEL starts from weights.",
    "levyjepa train data=mnist5k objective.gamma=1 run_dir=runs/first",
    argument(
        "--settings", action="store_true", help="print all settings with their meaning and stop"
    ),
    WORDS,
)
def train(options: Namespace) -> int:
    """Train one run."""
    from levyjepa.settings import describe
    from levyjepa.training.config import compose

    config = compose(options.words)
    if options.settings:
        _print(describe(config))
        return 0
    from levyjepa.api import train
    from levyjepa.training.run import is_first_rank

    run = train(config)
    if not is_first_rank():
        return 0
    if run.existed:
        _say(f"{run.folder.path} was finished before; nothing was trained.")
    if run.folder.finished:
        _print(run.summary())
    else:
        _say("Not evaluated; the same command with trainer.evaluate=true does it.")
    _print(f"report: {run.folder.report}")
    return 0


@command(
    "Train a grid of runs, paired by seed, and compare them. Finished runs are left as they are.",
    "levyjepa experiment experiment=demo seed=0,1,2 --jobs 2",
    argument("--jobs", type=int, default=1, metavar="N", help="runs side by side (1)"),
    argument(
        "--slurm",
        action="append",
        metavar="NAME=VALUE",
        help="submit each run as a SLURM job with this parameter of submitit, such as "
        "slurm_partition=gpu or gpus_per_node=1; may be repeated",
    ),
    WORDS,
)
def experiment(options: Namespace) -> int:
    """Train a grid of runs."""
    import yaml

    from levyjepa.report import experiment_report, markdown, run_report
    from levyjepa.training.experiment import run_experiment

    slurm = None
    if options.slurm is not None:
        pairs = (word.partition("=") for word in options.slurm)
        slurm = {name: yaml.safe_load(value) for name, _, value in pairs}
    result = run_experiment(options.words, jobs=options.jobs, slurm=slurm, plugins=options.plugin)
    for run in result.runs:
        if run.error:
            _say(f"{run.folder} failed: {run.error}")
    if not result.finished:
        return 1
    for folder in result.finished:
        run_report(folder.path)
    comparison = result.comparison()
    _print(markdown(comparison.query("headline == True")))
    _print(f"report: {experiment_report(result.root)}")
    return 0 if len(result.finished) == len(result.runs) else 1


@command(
    "Evaluate a run or any ViT with frozen features, on a run's own data or on other data. "
    "Scores of a finished run's own data go to evaluation.json, others to evaluation-NAME.json. "
    "A model other than a run needs data, and gets a folder: run_dir (runs/MODEL).",
    "levyjepa evaluate runs/first --task linear_probe --task knn",
    MODEL,
    PRETRAINED,
    argument("--task", action="append", metavar="NAME", help="run this task only; may be repeated"),
    WORDS,
)
def evaluate(options: Namespace) -> int:
    """Evaluate a run or any ViT."""
    from levyjepa.report import run_report, terminal
    from levyjepa.training.run import evaluate_run
    from levyjepa.training.run_folder import RunFolder

    evaluation, path = evaluate_run(
        options.model, options.words, tasks=options.task, pretrained=options.pretrained
    )
    _print(terminal(evaluation.of(options.task)))
    _print(f"written: {path}")
    if (run := RunFolder(path.parent)).evaluation_file == path:
        _print(f"report: {run_report(run.path)}")
    return 1 if evaluation.failures else 0


@command(
    "Embed images, or every image of a data set (the run's own without other words), into "
    "embeddings.npz: embeddings and names; of data sets also splits, labels and classes.",
    "levyjepa embed runs/first a.jpg b.jpg --out embedded",
    MODEL,
    PRETRAINED,
    argument(
        "words", nargs="*", metavar="IMAGE|KEY=VALUE", help="image files, or settings of data"
    ),
    argument(
        "--out", type=Path, metavar="DIR", default=Path("embeddings"), help="folder (embeddings)"
    ),
    argument("--tokens", action="store_true", help="also write patch tokens"),
)
def embed(options: Namespace) -> int:
    """Embed images or a data set."""
    import numpy as np

    from levyjepa.data.source import open_source
    from levyjepa.training.embedding import embed
    from levyjepa.training.loading import device_of, load, require_data, run_file

    files, words = _files(options.words)
    sets = [word for word in words if word.startswith(("data=", "data.source=", "data.path="))]
    if files and sets:
        raise ValueError(f"Give either images or a data set, got {files[0]} and {sets[0]}.")
    if not files and run_file(options.model) is None:
        require_data(options.model, words)
    trained = load(options.model, words, pretrained=options.pretrained)
    data = trained.config.data
    arrays: Any = embed(trained, files or open_source(data), data, options.tokens, device_of())
    options.out.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(options.out / "embeddings.npz", **arrays)
    shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
    _print(f"written: {options.out / 'embeddings.npz'}: {shapes}")
    return 0


@command(
    "Draw where an encoder's tokens change most, at every patch corner (PNG), and write the "
    "probability of a jump there (.npy).",
    "levyjepa jumps runs/first photo.jpg --out jumps",
    MODEL,
    PRETRAINED,
    argument("words", nargs="+", metavar="IMAGE", help="image files; data.image_size=PIXELS"),
    argument("--out", type=Path, metavar="DIR", default=Path("jumps"), help="folder (jumps)"),
)
def jumps(options: Namespace) -> int:
    """Draw where tokens jump."""
    import numpy as np

    from levyjepa.data.views import normalize
    from levyjepa.tasks.jump_maps import expected_jumps, increment_map, jump_map
    from levyjepa.tasks.panels import draw_jumps
    from levyjepa.training.loading import load, read_whole_patches, require_images

    files, words = _files(options.words)
    if not files:
        raise ValueError(f"`images` must be files, got {', '.join(words)} alone.")
    trained = require_images(load(options.model, words, pretrained=options.pretrained))
    images = [read_whole_patches(file, trained) for file in files]
    options.out.mkdir(parents=True, exist_ok=True)
    for path, image in zip(map(Path, files), images, strict=True):
        field = trained.field(normalize(image[None], trained.mean, trained.std))
        rescale = trained.config.objective.gamma == 0
        np.save(options.out / f"{path.stem}.npy", jump_map(field, trained.law, rescale)[0].numpy())
        figure = draw_jumps(image.permute(1, 2, 0).numpy(), increment_map(field)[0].numpy())
        figure.savefig(options.out / f"{path.stem}.png", dpi=150)
        _print(f"{path}: {options.out / path.stem}.png, {path.stem}.npy")
    if (share := expected_jumps(trained.law)) is not None:
        _print(f"the law expects a jump at {100 * share:.1f} % of corners")
    return 0


@command(
    "Say which law the patch tokens of a frozen ViT follow.",
    "levyjepa diagnose vit_small_patch8_224 --pretrained data=mnist5k --layers 6,12",
    MODEL,
    PRETRAINED,
    argument("--layers", metavar="N,N", help="blocks after which tokens are read (four of them)"),
    argument("--stencils", metavar="TEXT", help="such as 'box(2), line(2, axis=0)'"),
    argument("--images", type=int, default=64, metavar="N", help="number of images (64)"),
    WORDS,
)
def diagnose(options: Namespace) -> int:
    """Say which law a model's tokens follow."""
    from levyjepa.report.diagnosis_page import diagnose_model, write_diagnosis

    result, folder = diagnose_model(
        options.model,
        options.words,
        layers=_numbers(options.layers),
        pretrained=options.pretrained,
        stencils=options.stencils,
        number=options.images,
        progress=_say,
    )
    _print(f"{result.verdict}\n\n{result.table.to_string()}")
    _print(f"report: {write_diagnosis(result, folder)}")
    return 0


@command(
    "Find the frames at which the shots of a video begin, in a file or a folder of pictures: "
    "events.json, shots.csv and timeline.png in run_dir (runs/VIDEO).",
    "levyjepa events video.mp4 run_dir=runs/video",
    argument("video", metavar="VIDEO", help="a video file, or a folder of pictures"),
    argument("--encoder", metavar="MODEL", help="describe frames by a run's or another encoder"),
    PRETRAINED,
    argument(
        "--rate", type=float, default=25.0, metavar="FPS", help="of a folder of pictures (25)"
    ),
    argument(
        "--false-alarms",
        type=float,
        metavar="N",
        help="expected false alarms per hour of video",
    ),
    argument("words", nargs="*", metavar="run_dir=DIR", help="where results go"),
)
def events(options: Namespace) -> int:
    """Find where the shots of a video begin."""
    from levyjepa.events import analyze_video

    folder = None
    for word in options.words:
        key, _, value = word.partition("=")
        if key != "run_dir" or not value:
            raise ValueError(f"The only setting of events is run_dir=DIR, got {word!r}.")
        folder = Path(value)
    default = Path("runs") / Path(options.video).stem
    if folder is None and default.exists():
        raise ValueError(
            f"{default} exists, maybe of another video; run_dir={default} writes there."
        )
    encoder = None
    if options.encoder is not None:
        from levyjepa.training.loading import load

        encoder = load(options.encoder, pretrained=options.pretrained)
    limits = {} if options.false_alarms is None else {"false_alarms_per_hour": options.false_alarms}
    result = analyze_video(
        options.video, folder or default, rate=options.rate, encoder=encoder, **limits
    )
    for event in result.events:
        _print(
            f"frame {event.frame}, {event.time:.3f} s: a shot begins, p = {event.probability:.3f}"
        )
    number = len(result.shots)
    where = folder or default
    _print(f"{number} shot{'s' * (number != 1)}: {where / 'events.json'}, shots.csv, timeline.png")
    return 0


@command(
    "Draw the page of a run or of an experiment, report.html in its folder. Several folders give "
    "one page that compares them.",
    "levyjepa report runs/demo",
    argument(
        "folders", type=Path, nargs="+", metavar="DIR", help="run folders, or folders of runs"
    ),
    argument("--out", type=Path, metavar="FILE", help="page of several folders (comparison.html)"),
)
def report(options: Namespace) -> int:
    """Draw the page of runs."""
    from levyjepa.report import compare_report, experiment_report, run_report
    from levyjepa.training.run_folder import RunFolder

    first, *others = options.folders
    if others or options.out:
        page = compare_report(options.folders, options.out or Path("comparison.html"))
    elif RunFolder(first).exists:
        page = run_report(first)
    else:
        page = experiment_report(first)
    _print(f"report: {page}")
    return 0


@command(
    "Write the encoder, normalization included, by torch.export for batches of any size, and check "
    "it. torch.export.load(OUT).module()(images) gives (embedding, tokens).",
    "levyjepa export runs/first encoder.pt2",
    MODEL,
    PRETRAINED,
    argument("out", type=Path, metavar="OUT.pt2"),
)
def export(options: Namespace) -> int:
    """Write the encoder by torch.export."""
    from levyjepa.training.export import export
    from levyjepa.training.loading import load

    result = export(load(options.model, pretrained=options.pretrained), options.out)
    images, embedding, tokens = (
        f"(batch, {', '.join(map(str, shape))})"
        for shape in (result.images, result.embedding, result.tokens)
    )
    _print(f"written: {options.out}: images {images} in [0, 1] to embedding {embedding}")
    _print(f"and tokens {tokens}; the largest difference is {result.error:.1g} of the values")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    0: success; 1: a run of a grid or a task failed; 2: an error; 130: interrupted.
    """
    parser = _parser()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words:
        parser.print_help()
        return 0
    if hint := _unknown_command(words):
        parser.error(hint)
    options, unknown = parser.parse_known_args(words)
    if hasattr(options, "words"):  # argparse takes no words after an option
        options.words += [word for word in unknown if not word.startswith("-")]
        unknown = [word for word in unknown if word.startswith("-")]
    if unknown:
        parser.error(_unknown_options(unknown))
    debug = options.debug or bool(os.environ.get("LEVYJEPA_DEBUG"))
    logging.basicConfig(format="%(message)s")
    logging.getLogger("levyjepa").setLevel(logging.DEBUG if debug else logging.INFO)
    try:
        from levyjepa.registry import import_plugin

        for plugin in options.plugin:
            import_plugin(plugin)
        with warnings.catch_warnings():
            if not debug:
                warnings.simplefilter("ignore")  # Lightning's hints say nothing new here
                warnings.filterwarnings("default", module="levyjepa.objectives")
            return COMMANDS[options.command].run(options)
    except KeyboardInterrupt as interruption:
        text = str(interruption) or "Interrupted."
        _say(f"{text}\nTo continue: {_again(options, words, interruption)}")
        return 130
    except ModuleNotFoundError as error:
        if debug or (error.name or "").startswith("levyjepa"):
            raise
        _say(
            f"levyjepa {options.command}: {error.name} is not installed; "
            "`pip install 'levyjepa[train]'` installs all that commands need."
        )
        return 2
    except Exception as error:
        if debug:
            raise
        plain = isinstance(error, (ValueError, TypeError, OSError, RuntimeError, ImportError))
        kind = "" if plain else f"{type(error).__name__}: "
        _say(f"levyjepa {options.command}: {kind}{' '.join(str(error).split())}")
        return 2


def _parser() -> ArgumentParser:
    common = ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show where an error came from")
    common.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="MODULE",
        help="import a module that registers sources, encoders or tasks",
    )
    parser = ArgumentParser(
        prog="levyjepa",
        description="LeJEPA with a Lévy prior on the patch embeddings of an image or clip.",
        epilog="Settings read KEY=VALUE, such as objective.gamma=0 or data=cifar10; "
        f"`levyjepa train --settings` lists them. Presets: {_presets()}.",
    )
    parser.add_argument("--version", action="version", version=f"levyjepa {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, entry in COMMANDS.items():
        sub = commands.add_parser(
            name,
            help=entry.help.split(". ")[0].rstrip("."),
            description=entry.help,
            epilog=f"Example: {entry.example}",
            parents=[common],
        )
        for names, options in entry.arguments:
            sub.add_argument(*names, **options)
    return parser


def _presets() -> str:
    package = Path(__file__).parent
    groups: dict[str, list[str]] = {"data": []}
    for path in sorted((package / "data" / "sources").glob("*.yaml")):
        groups["data"].append(path.stem)
    for path in sorted((package / "presets").glob("*/*.yaml")):
        groups.setdefault(path.parent.name, []).append(path.stem)
    return "; ".join(f"{group}={'|'.join(names)}" for group, names in groups.items())


def _unknown_command(words: list[str]) -> str:
    first = words[0]
    if first in COMMANDS or first in ("-h", "--help", "--version"):
        return ""
    if first.startswith("-") or "=" in first:
        return f"a command comes first, such as `{shlex.join(['levyjepa', 'train', *words])}`"
    near = get_close_matches(first, COMMANDS, n=1)
    hint = f"; did you mean `levyjepa {near[0]}`?" if near else "."
    return f"there is no command `{first}`{hint} Commands: {', '.join(COMMANDS)}."


def _unknown_options(words: list[str]) -> str:
    """What to write instead of an option that is a setting."""
    from levyjepa.training.config import known_keys

    text = f"unrecognized arguments: {' '.join(words)}"
    name, _, value = words[0].lstrip("-").replace("-", "_").partition("=")
    keys = [key for key in known_keys() if name in (key, key.rsplit(".", 1)[-1])]
    return f"{text}; a setting has no dashes: {keys[0]}={value or 'VALUE'}" if keys else text


def _again(options: Namespace, words: list[str], interruption: KeyboardInterrupt) -> str:
    """The command that continues what was interrupted."""
    folder = getattr(interruption, "run_dir", None)
    if options.command == "train" and folder:
        words = [w for w in words if not w.startswith("run_dir=")] + [f"run_dir={folder}"]
    return shlex.join(["levyjepa", *words])


def _files(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part words into files and settings."""
    files = [word for word in words if "=" not in word or Path(word).is_file()]
    return files, [word for word in words if word not in files]


def _numbers(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.strip("[]").split(",")]
    except ValueError:
        raise ValueError(f"`--layers` must be numbers, such as 4,8,12, got {text!r}.") from None


def _print(text: str) -> None:
    """Print a result to stdout."""
    sys.stdout.write(f"{text}\n")


def _say(text: str) -> None:
    """Print a message to stderr."""
    sys.stderr.write(f"{text}\n")
