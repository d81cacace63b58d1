"""Independent coordinates: vectors whose axes mean something."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from levyjepa import checks
from levyjepa.laws.law import Law
from levyjepa.laws.parametric import Parametric


class IndependentCoordinates(Parametric):
    """Vectors whose coordinates are independent, each of its own law and on its own clock.

    Coordinate c follows `laws[c % len(laws)]`. A jump strikes one coordinate alone, so a rotation
    changes the law unless all are Brownian of one sigma: what is not Gaussian tells the axes
    (Comon, *Independent component analysis, a new concept?*, 1994). It is no `Law`, which has one
    exponent for every direction.

    Args:
        laws: of the coordinates in turn, one or more.

    >>> from levyjepa.laws import Brownian
    >>> IndependentCoordinates(Brownian(1.0), Brownian(2.0)).sample((5,), dim=4).shape
    torch.Size([5, 4])
    """

    def __init__(self, *laws: Law) -> None:
        super().__init__()
        if not laws or not all(isinstance(law, Law) for law in laws):
            raise TypeError(f"`laws` must be one law or more, got {laws!r}.")
        self.laws = nn.ModuleList(laws)

    def exponent(self, u: Tensor) -> Tensor:
        """The sum of the coordinates' exponents, unit volume: E exp(i u.x) = exp(psi(u)).

        Args:
            u: (..., D) frequencies, one for each coordinate, floating point.

        Returns:
            (...).
        """
        frequencies = self.frequencies(u)
        if u.ndim == 0:
            raise ValueError("`u` must be (..., D), got shape ().")
        parts = [law.psi(part).sum(-1) for law, part in self._deal(frequencies)]
        psi = torch.stack(parts).sum(0)
        return psi.clamp(torch.finfo(u.dtype).min, 0).to(u.dtype)

    def characteristic_function(self, u: Tensor, volume: float = 1.0) -> Tensor:
        """E exp(i u.x) over a cell of `volume`, (...) at `u` (..., D)."""
        return (self.exponent(u) * checks.positive("volume", volume)).exp()

    def sample(
        self,
        shape: Sequence[int],
        volume: float = 1.0,
        dim: int | None = None,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Draw independent vectors exactly, (*shape, dim); `dim` is a coordinate a law if None.

        The other arguments are those of `Law.sample`.
        """
        size = checks.sizes("shape", shape)
        dim = len(self.laws) if dim is None else checks.count("dim", dim)
        found = torch.empty(
            (*size, dim),
            dtype=checks.dtype(dtype),
            device=checks.generator_device(generator),
        )
        for law, part in self._deal(found):
            part.copy_(law.sample(part.shape, volume, None, generator, dtype))
        return found

    def _deal(self, vectors: Tensor) -> list[tuple[Law, Tensor]]:
        """Each law with its coordinates of `vectors`."""
        count = len(self.laws)
        return [(law, vectors[..., n::count]) for n, law in enumerate(self.laws)]  # pyright: ignore

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.laws))})"
