"""Pages of runs, and tables for the terminal."""

from levyjepa.report.page import Drawing, Section, write_page
from levyjepa.report.runs import compare_report, experiment_report, run_report
from levyjepa.training.summary import markdown, terminal

__all__ = [
    "Drawing",
    "Section",
    "compare_report",
    "experiment_report",
    "markdown",
    "run_report",
    "terminal",
    "write_page",
]
