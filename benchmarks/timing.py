"""Time and peak memory of several cases in one run, their rounds interleaved."""

import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

Run = Callable[[], object]


def table(cases: Mapping[str, Run], base: str, rounds: int = 15) -> tuple[str, dict[str, float]]:
    """A Markdown table, and the seconds in it: best ms, times faster than `base`, peak memory.

    The best of many, short cases more often: what others do on the machine only adds to a time.
    """
    memory, best, often = {}, {}, {}
    for name, run in cases.items():
        run()
        memory[name] = peak(run)
        best[name] = timed(run)
        often[name] = min(20, 1 + int(0.05 / best[name]))
    for _ in range(rounds):
        for name, run in cases.items():
            best[name] = min(best[name], *(timed(run) for _ in range(often[name])))
    lines = [f"| | ms | times faster than {base} | peak extra memory, MB |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {1e3 * t:.2f} | {best[base] / t:.1f} | {memory[name]:.0f} |"
        for name, t in best.items()
    ]
    return "\n".join(lines), best


def timed(run: Run) -> float:
    """Seconds of one run."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


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
