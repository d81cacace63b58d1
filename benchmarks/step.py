"""What the Lévy prior costs a training step: views, network, loss, backward pass, optimizer.

    python benchmarks/step.py [--device cuda] [--images 4] [--choices]

The demo's network on its own batch, and ViT-S/8 at 128 pixels with `--images` images (96 is the
original's batch, for a GPU), four views each, bfloat16 on a GPU. Steps with and without the prior
are interleaved. The patch projection and the statistic are timed apart, forward and backward, on
tokens of the step's size; what is left of the difference is the gradient's way back into the
encoder, and noise.

`--choices` compares what `experiments/search.sh` chooses between instead, on the CIFAR-10 preset:
the processor's time on one thread, which other work on the machine does not add to.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from levyjepa.data import Photometric
from levyjepa.models import Network, build_encoder
from levyjepa.training import Config, compose
from levyjepa.training.objective import build_objective

ROUNDS = 5
CHOICES = {
    "gamma 0": ["objective.gamma=0"],
    "linear map of the tokens": [],
    "the tokens themselves": ["model.patch_projection=none"],
    "wide head": ["model.patch_projection=mlp"],
    "lines": ["objective.stencils=[line(2,axis=0),line(2,axis=1)]"],
    "boxes of sides 1, 2, 4": ["objective.stencils=[box(2),box(2,side=2),box(2,side=4)]"],
    "boxes, diamonds and lines": [
        "objective.stencils=[box(2),diamond(),line(2,axis=0),line(2,axis=1)]"
    ],
    "calibrated": ["objective.calibrated=true"],
    "every disjoint tiling": ["objective.cells=every"],
    "17 nodes": ["objective.quadrature=gauss_laguerre", "objective.nodes=17"],
    "learned law": ["objective.learnable=true"],
    "Gaussian increments": ["objective.law=Brownian(sigma=2.0039)"],
    "total variation": ["objective.prior=total_variation"],
}


def make_step(config: Config, device: str) -> Callable[[], None]:
    """A training step on random bytes."""
    torch.manual_seed(0)
    prior = config.objective.gamma > 0
    encoder = build_encoder(config.model, config.data.image_size)
    network = Network(encoder, config.model, 10, prior).to(device)
    objective = build_objective(config).to(device)
    photometric = Photometric(config.views, (0.5,) * 3, (0.25,) * 3).to(device)
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5)
    size, group = config.data.image_size, config.views.groups[0]
    shape = (group.count, config.data.batch_size, 3, size, size)
    views = torch.randint(256, shape, dtype=torch.uint8, device=device)

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            output = network(photometric(views).flatten(0, 1), field=prior)
        field = output.field.float() if prior else None
        objective(output.projection.float().unflatten(0, shape[:2]), field).total.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def make_parts(config: Config, device: str) -> dict[str, Callable[[], None]]:
    """The patch projection and the statistic, each forward and backward."""
    encoder = build_encoder(config.model, config.data.image_size)
    network = Network(encoder, config.model, 0, True).to(device)
    levy = build_objective(config).to(device).levy
    assert levy is not None
    views = config.views.groups[0].count * config.data.batch_size
    size = config.data.image_size
    grid = network.encoder.grid((size, size))
    tokens = torch.randn(views, *grid, network.encoder.width, device=device)
    tokens.requires_grad_()
    wide = config.model.patch_projection_dim
    field = torch.randn(views, *grid, wide, device=device).requires_grad_()

    def project() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            projected = network.patch_projection(tokens)
        projected.float().square().mean().backward()

    def score() -> None:
        levy(field).backward()

    return {"patch projection": project, "statistic": score}


def times(
    runs: dict[str, Callable[[], None]],
    device: str,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Median seconds of each, rounds interleaved."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for warm in range(ROUNDS + 1):
        for name, run in runs.items():
            start = clock()
            run()
            if device == "cuda":
                torch.cuda.synchronize()
            if warm:
                found[name].append(clock() - start)
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def compare_choices() -> None:
    """Print the cost of each choice on one thread."""
    torch.set_num_threads(1)
    base = ["experiment=cifar10", "model.patch_projection=linear"]
    runs = {}
    for name, overrides in CHOICES.items():
        config = compose(base + overrides)
        runs[name] = make_step(config, "cpu")
    found = times(runs, "cpu", time.process_time)
    print("| | ms of a step | times gamma 0 |\n|---|---|---|")
    for name, seconds in found.items():
        print(f"| {name} | {1e3 * seconds:.0f} | {seconds / found['gamma 0']:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--images", type=int, default=4, help="of ViT-S/8's batch (4)")
    parser.add_argument("--choices", action="store_true")
    options = parser.parse_args()
    if options.choices:
        return compare_choices()
    cases = {
        "ViT of width 64 on digits": [
            "data=mnist5k",
            "model.overrides={embed_dim: 64, depth: 3, num_heads: 2}",
        ],
        "ViT-S/8, 64 equispaced nodes": ["data=imagenette", f"data.batch_size={options.images}"],
        "ViT-S/8, the original's 17 nodes": [
            "experiment=exp1",
            f"data.batch_size={options.images}",
        ],
    }
    threads = torch.get_num_threads() if options.device == "cpu" else "a GPU"
    print(f"torch {torch.__version__}, {threads} threads, median of {ROUNDS} steps, ms\n")
    print("| | images × views | gamma 0 | gamma 1 | ratio | patch projection | statistic |")
    print("|---|---|---|---|---|---|---|")
    for name, overrides in cases.items():
        config = compose(overrides)
        runs = {
            "gamma 0": make_step(compose([*overrides, "objective.gamma=0"]), options.device),
            "gamma 1": make_step(compose(overrides), options.device),
            **make_parts(compose(overrides), options.device),
        }
        found = times(runs, options.device)
        size = f"{config.data.batch_size} × {config.views.groups[0].count}"
        ms = [f"{1e3 * found[part]:.1f}" for part in found]
        ratio = f"{found['gamma 1'] / found['gamma 0']:.3f}"
        print(f"| {name} | {size} | {ms[0]} | {ms[1]} | {ratio} | {ms[2]} | {ms[3]} |")


if __name__ == "__main__":
    main()
