"""The score of the law itself and of one departure from it, on several grids and under a mask.

    python benchmarks/floor.py

The law is Brownian(0.125) + CompoundPoisson(2, LaplaceJumps(1)), the departure a Gaussian sheet of
its variance. Means over 2,000 fields of 8 channels with `box(2)`, with their standard errors.
"""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from levyjepa import Brownian, LevyRegularizer, box, parse_law, sample_sheet

LAW = parse_law("Brownian(0.125) + CompoundPoisson(2, LaplaceJumps(1))")
WAYS = {"floor out": {}, "floor left in": {"unbiased": False}, "calibrated": {"calibrated": True}}
NUMBER, CHANNELS = 2000, 8


def sheets(law: Brownian | object, side: int) -> Tensor:
    generator = torch.Generator().manual_seed(side)
    return sample_sheet(law, box(2), (side, side), CHANNELS, NUMBER, generator)  # pyright: ignore


def score(term: LevyRegularizer, fields: Tensor, mask: Tensor | None = None) -> str:
    """Return the mean over fields and its standard error."""
    turn = torch.eye(CHANNELS)
    parts = []
    for n in range(0, NUMBER, 50):
        own = None if mask is None else mask[n : n + 50]
        parts.append(term(fields[n : n + 50], turn, mask=own))
    values = torch.stack(parts)
    return f"{values.mean():.4f} ± {values.std() / len(values) ** 0.5:.4f}"


def table(title: str, fields_of: Callable[[int], Tensor]) -> None:
    sides = (7, 14, 28)
    print(f"\n| {title} | {' | '.join(f'{n} x {n}' for n in sides)} |\n|---|---|---|---|")
    fields = [fields_of(side) for side in sides]
    for name, options in WAYS.items():
        term = LevyRegularizer(LAW, box(2), **options)  # pyright: ignore
        print(f"| {name} | {' | '.join(score(term, field) for field in fields)} |", flush=True)


def main() -> None:
    warnings.simplefilter("ignore")
    table("the law", lambda side: sheets(LAW, side))
    table("Gaussian increments", lambda side: sheets(Brownian(LAW.variance() ** 0.5), side))
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(NUMBER, 14, 14, generator=generator) < 0.25
    noise = torch.randn(NUMBER, 14, 14, CHANNELS, generator=generator)
    print("\n| a quarter of 14 x 14 tokens kept | the law | white noise |\n|---|---|---|")
    for name in ("floor out", "floor left in"):
        term = LevyRegularizer(LAW, box(2), **WAYS[name])  # pyright: ignore
        print(f"| {name} | {score(term, sheets(LAW, 14), mask)} | {score(term, noise, mask)} |")


if __name__ == "__main__":
    main()
