"""Run folders to pictures and one page."""

from levyjepa.report.page import compare_report, experiment_report, run_report
from levyjepa.report.pictures import draw_jumps

__all__ = ["compare_report", "draw_jumps", "experiment_report", "run_report"]
