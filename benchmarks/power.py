"""Power of the goodness-of-fit test beside Kolmogorov-Smirnov and Cramer-von Mises.

    python benchmarks/power.py

How often each rejects at 5 % the law that the samples are said to follow, on the same samples. The
first row of each half is the law itself: its rate must be 5 %. The alternatives have the law's
variance unless their name says otherwise. Scipy's tests take the distribution function from
`levyjepa.inference.log_density`, and vectors for so many independent scalars.
"""

import argparse

import numpy as np
import torch
from scipy import stats
from scipy.integrate import cumulative_trapezoid
from torch import Tensor

from levyjepa.inference import goodness_of_fit, log_density
from levyjepa.laws import Brownian, CompoundPoisson, GaussianJumps, LaplaceJumps, Law
from levyjepa.laws import NormalInverseGaussian as NIG

LAW = Brownian(0.125) + CompoundPoisson(2.0, LaplaceJumps(1.0))
VARIANCE = float(LAW.variance())
OTHERS: dict[str, Law] = {
    "the law itself": LAW,
    "Gaussian noise": Brownian(VARIANCE**0.5),
    "Gaussian jumps": Brownian(0.125) + CompoundPoisson(2.0, GaussianJumps(2**0.5)),
    "NIG of the same kurtosis (3)": NIG((1 / VARIANCE) ** 0.5, VARIANCE**0.5),
    "jumps twice as rare": Brownian(0.125) + CompoundPoisson(1.0, LaplaceJumps(0.5**0.5)),
    "smooth part twice as wide (variance + 1 %)": Brownian(0.25) + LAW.laws[1],  # pyright: ignore
    "jumps a fifth larger (variance + 43 %)": Brownian(0.125)
    + CompoundPoisson(2.0, LaplaceJumps(1 / 1.2)),
}


def distribution(law: Law):
    """The distribution function, from the density."""
    x = torch.cat([torch.linspace(0, 8, 40_001), torch.linspace(8, 80, 20_001)[1:]]).double()
    half = cumulative_trapezoid(log_density(x, law).exp().numpy(), x.numpy(), initial=0)
    return lambda at: 0.5 + np.sign(at) * np.interp(np.abs(at), x.numpy(), half)


def rejections(sets: Tensor, draws: int, generator: torch.Generator) -> list[float]:
    """Shares of `sets` that each test rejects: ours, Kolmogorov-Smirnov, Cramer-von Mises."""
    cdf = distribution(LAW)
    p = [
        (
            goodness_of_fit(x, LAW, generator=generator, draws=draws).p_value,
            stats.kstest(x.numpy().ravel(), cdf).pvalue,
            stats.cramervonmises(x.numpy().ravel(), cdf).pvalue,
        )
        for x in sets
    ]
    return (np.array(p) <= 0.05).mean(0).tolist()


def main(count: int, draws: int) -> None:
    generator = torch.Generator().manual_seed(0)
    print(
        f"{count} sets of samples a cell, so {50 * count**-0.5:.1f} % of standard error at most\n"
    )
    print("| samples follow | size | `goodness_of_fit` | Kolmogorov-Smirnov | Cramer-von Mises |")
    print("|---|---|---|---|---|")
    for name, law in OTHERS.items():
        for size in (50, 200, 800):
            sets = law.sample((count, size), generator=generator, dtype=torch.float64)
            row = rejections(sets, draws, generator)
            print(f"| {name} | {size} | " + " | ".join(f"{share:.1%}" for share in row) + " |")
    for name in list(OTHERS)[:2]:
        sets = OTHERS[name].sample((count, 50), 1.0, 16, generator, torch.float64)
        row = rejections(sets, draws, generator)
        print(f"| {name} | 50 x 16 | " + " | ".join(f"{share:.1%}" for share in row) + " |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=200, help="simulated sets a cell")
    parser.add_argument("--draws", type=int, default=199, help="of each test of ours")
    options = parser.parse_args()
    main(options.sets, options.draws)
