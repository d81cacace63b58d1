"""`levyjepa report`: pages drawn anew."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path

from levyjepa.cli.command import Command, out

PAGE = Path("comparison.html")


def _arguments(parser: ArgumentParser) -> None:
    parser.add_argument("dirs", type=Path, nargs="+", metavar="DIR")
    text = f"where the page of several folders goes (./{PAGE})"
    parser.add_argument("--out", type=Path, metavar="FILE", help=text)


def _run(options: Namespace) -> int:
    from levyjepa.report import compare_report, experiment_report, run_report

    if len(options.dirs) > 1:
        out(f"report: {compare_report(options.dirs, options.out or PAGE)}")
        return 0
    only = options.dirs[0]
    if options.out:
        raise ValueError(f"`--out` is of several folders' page; this one is {only}/report.html.")
    draw: Callable[[Path], Path] = (
        run_report if (only / "config.yaml").is_file() else experiment_report
    )
    out(f"report: {draw(only)}")
    return 0


REPORT = Command(
    "Draw the page of a run or an experiment anew, into its folder's report.html. Several folders "
    f"give one page, {PAGE} in the current folder or the file that --out names: runs that differ "
    "in settings are its cells, paired where they share seeds.",
    "levyjepa report runs/demo",
    _arguments,
    _run,
)
