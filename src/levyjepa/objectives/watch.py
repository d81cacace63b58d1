"""Warnings of fields and masks on which a prior can't act, without waiting for a GPU."""

import math
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from levyjepa.ecf import Quadrature


class PriorWarning(UserWarning):
    """The prior can't act on a field: it is out of the law's range, or a mask leaves nothing."""


class Watch:
    """Counts of calls in which a prior could not act. Eager calls count, on the field's device.

    Args:
        law: Text of the law.
        units: Whether the law is in the units of the field.
    """

    def __init__(self, law: str, units: bool) -> None:
        self.units, self.calls = units, 0
        self.counts: dict[str, Tensor] = {}
        self.texts = [
            "`field` and `mask` leave no pair of whole cells of a stencil in any image: its term "
            "is 0. Use a larger grid or a smaller stencil, or keep more patches, in blocks.",
            f"Many increments of the field are too large for the frequencies of {law}, so the "
            "loss can't pull them back. Use scale='tokens' or levyjepa.fit_scale.",
            f"All increments of the field are too small for the frequencies of {law}: it is "
            "constant, or its scale is not the law's. Use scale='tokens' or levyjepa.fit_scale.",
        ]

    def see(
        self,
        increments: Sequence[Tensor],
        rules: Sequence[Quadrature],
        samples: Sequence[Tensor | None],
    ) -> None:
        """Count one call. On a CPU, warn at once.

        Args:
            increments: (B, n, C) increments of each term.
            rules: Its quadrature rule.
            samples: Its number of samples, None if no mask can have left any out.
        """
        device = increments[0].device
        if torch.compiler.is_compiling() or device.type == "meta":
            return
        self.calls += 1
        absent = [(number == 0).any() for number in samples if number is not None]
        due = self.units and self.calls & (self.calls - 1) == 0  # calls 1, 2, 4, 8, ...
        if not absent and not due:
            return
        problems = torch.zeros(3, device=device)
        if absent:
            problems[0] = torch.stack(absent).any()
        if due:
            sizes = [_out_of_range(x, rule) for x, rule in zip(increments, rules, strict=True)]
            problems[1:] = torch.stack(sizes).any(0)
        self.counts[str(device)] = problems + self.counts.get(str(device), 0)
        if device.type == "cpu":
            self.report()

    def report(self) -> None:
        """Read the counts and warn of each problem once."""
        totals = [
            sum(counts) for counts in zip(*map(Tensor.tolist, self.counts.values()), strict=True)
        ]
        self.counts.clear()
        for n, total in enumerate(totals):
            if total and self.texts[n]:
                warnings.warn(self.texts[n], PriorWarning, stacklevel=1)
                self.texts[n] = ""


def _out_of_range(increments: Tensor, rule: Quadrature) -> Tensor:
    """Return whether a quarter of increments alias, and whether all are too small to see: (2,)."""
    limit = math.pi / (rule.step or float(rule.nodes.diff().max()))
    x = increments.detach().abs()
    return torch.stack([(x > limit).float().mean() > 0.25, x.max() < 0.1 / rule.last])
