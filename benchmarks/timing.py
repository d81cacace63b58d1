"""Time and peak memory of several cases in one run, their rounds interleaved."""

import statistics
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

Run = Callable[[], object]


def table(cases: Mapping[str, Run], base: str, rounds: int = 15) -> str:
    """A Markdown table: median ms, times faster than `base`, peak extra resident memory."""
    memory, times = {}, {name: [] for name in cases}
    for name, run in cases.items():
        run()
        memory[name] = peak(run)
    for _ in range(rounds):
        for name, run in cases.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    middle = {name: statistics.median(seconds) for name, seconds in times.items()}
    lines = [f"| | ms | times faster than {base} | peak extra memory, MB |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {1e3 * t:.2f} | {middle[base] / t:.1f} | {memory[name]:.0f} |"
        for name, t in middle.items()
    ]
    return "\n".join(lines)


def peak(run: Run) -> float:
    """Extra resident memory while running, MB, sampled every 0.2 ms."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    before, most, done = resident(), [0], threading.Event()

    def watch() -> None:
        while not done.is_set():
            most[0] = max(most[0], resident())
            time.sleep(2e-4)

    watcher = threading.Thread(target=watch)
    watcher.start()
    run()
    done.set()
    watcher.join()
    return max(most[0] - before, 0) / 2**20
