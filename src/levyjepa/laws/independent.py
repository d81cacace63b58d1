"""A law of vectors whose coordinates are independent."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from levyjepa import checks
from levyjepa.laws.law import Law
from levyjepa.laws.parametric import Parametric


class IndependentCoordinates(Parametric):
    """A law of vectors with independent coordinates, one law and one clock per coordinate.

    Coordinate c follows `laws[c % len(laws)]`. A jump changes one coordinate only. A rotation
    therefore changes the law, unless all coordinates are Brownian with the same sigma: the axes
    can be recovered from non-Gaussian increments, as in independent component analysis. This
    class is not a `Law`, because a `Law` has the same exponent in every direction.

    Args:
        laws: One or more laws, assigned to the coordinates in turn.

    Source: Comon, *Independent component analysis, a new concept?*, 1994.

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
        """Return the sum of the coordinates' exponents: E exp(i u.x) = exp(psi(u)) for unit volume.

        Args:
            u: (..., D) floating-point frequencies, one per coordinate.

        Returns:
            (...), at most 0.
        """
        frequencies = self.frequencies(u)
        if u.ndim == 0:
            raise ValueError("`u` must be (..., D), got shape ().")
        parts = [law.psi(part).sum(-1) for law, part in self._split(frequencies)]
        psi = torch.stack(parts).sum(0)
        return psi.clamp(torch.finfo(u.dtype).min, 0).to(u.dtype)

    def characteristic_function(self, u: Tensor, volume: float = 1.0) -> Tensor:
        """Return E exp(i u.x) over a cell of volume `volume`: (...) for `u` of shape (..., D)."""
        return (self.exponent(u) * checks.positive("volume", volume)).exp()

    def sample(
        self,
        shape: Sequence[int],
        volume: float = 1.0,
        dim: int | None = None,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Draw exact, independent vectors of shape (*shape, dim).

        `dim` is the number of laws if None. The other arguments are those of `Law.sample`.
        """
        size = checks.sizes("shape", shape)
        dim = len(self.laws) if dim is None else checks.count("dim", dim)
        samples = torch.empty(
            (*size, dim),
            dtype=checks.dtype(dtype),
            device=checks.generator_device(generator),
        )
        for law, part in self._split(samples):
            part.copy_(law.sample(part.shape, volume, None, generator, dtype))
        return samples

    def _split(self, vectors: Tensor) -> list[tuple[Law, Tensor]]:
        """Return pairs of a law and its coordinates of `vectors`."""
        count = len(self.laws)
        return [(law, vectors[..., n::count]) for n, law in enumerate(self.laws)]  # pyright: ignore

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.laws))})"
