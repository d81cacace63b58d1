"""The memory that a step of the Lévy prior adds, forward and backward, whatever the nodes.

    python benchmarks/memory.py [--images 256]

On the field of ViT-B/16 at 224 pixels, 14 x 14 tokens of 256 channels, float32. What torch's
allocator hands out beyond the field at its peak, the field's gradient included, counted by
torch.profiler: the same on every machine, however busy.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from levyjepa.ecf import equispaced
from levyjepa.laws import Brownian, CompoundPoisson, LaplaceJumps
from levyjepa.objectives import LevyRegularizer

LAW = Brownian(0.125) + CompoundPoisson(2.0, LaplaceJumps(1.0))


def peak(run: Callable[[], object]) -> int:
    """The most bytes allocated on the CPU at one time while running, above those at the start."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        run()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        seen.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    events = [event for event in events if event["name"] == "[memory]"]
    level = most = 0
    for event in sorted(events, key=lambda event: event["ts"]):
        level += event["args"]["Bytes"]
        most = max(most, level)
    return most


def share(images: int, nodes: int, compiled: bool = False) -> float:
    """Peak extra memory of a step, in units of its field."""
    field = torch.randn(images, 14, 14, 256, requires_grad=True)
    levy = LevyRegularizer(LAW, quadrature=lambda law, volume: equispaced(law, nodes, volume))
    loss = torch.compile(levy) if compiled else levy

    def step() -> None:
        loss(field).backward()
        field.grad = None

    step()  # what is made once: the compiled code, caches
    return peak(step) / (field.numel() * field.element_size())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=256)
    images = parser.parse_args().images
    print(f"torch {torch.__version__}, field [{images}, 14, 14, 256], {images * 49 / 256:.0f} MiB")
    print("| nodes | peak extra memory, fields | compiled |\n|---|---|---|")
    for nodes in (17, 64):
        print(f"| {nodes} | {share(images, nodes):.2f} | {share(images, nodes, True):.2f} |")


if __name__ == "__main__":
    main()
