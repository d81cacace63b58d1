"""`levyjepa train`: one run, evaluated."""

from argparse import ArgumentParser, Namespace

from levyjepa.cli.command import Command, add_overrides, out, quieten, say
from levyjepa.cli.scores import show_scores


def _arguments(parser: ArgumentParser) -> None:
    text = "print every setting that these overrides give, and stop"
    parser.add_argument("--settings", action="store_true", help=text)
    add_overrides(parser)


def _run(options: Namespace) -> int:
    from levyjepa.conf.compose import compose
    from levyjepa.conf.explain import explain

    config = compose(options.overrides)
    if options.settings:
        out(explain(config))
        return 0
    from levyjepa.training.run import train

    quieten(options)
    result = train(config)
    if not _first():
        return 0
    from levyjepa.report import run_report

    if result.kept:
        say(f"{result.run_dir} was finished before and is kept as it is.")
    show_scores(result.evaluation, result.online_last, result.online_best)
    if not result.evaluation:
        say("Not evaluated; the same command with trainer.evaluate=true does it.")
    out(f"report: {run_report(result.run_dir)}")
    return 0


def _first() -> bool:
    from lightning.pytorch.utilities import rank_zero_only

    return rank_zero_only.rank == 0


TRAIN = Command(
    "Train one run and evaluate it, into a run folder.",
    "levyjepa train data=mnist5k objective.gamma=1 run_dir=runs/first",
    _arguments,
    _run,
)
