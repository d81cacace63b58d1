"""The paper's table of costs, from what the benchmark prints.

python benchmarks/statistic.py | python docs/paper/cost.py
"""

import sys
from pathlib import Path

setting, *lines = sys.stdin.read().strip().splitlines()
table = [line for line in lines if line.startswith("|")]
rows = [line.strip("| ").split(" | ") for line in table[2:]]
(Path(__file__).parent / "figures" / "cost.tex").write_text(
    f"\\newcommand{{\\costsetting}}{{{setting}}}\n"
    "\\newcommand{\\costrows}{\n" + "".join(f"{' & '.join(row)} \\\\\n" for row in rows) + "}\n"
)
