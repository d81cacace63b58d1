"""Time and memory of SIGReg beside its plain formula, forward and backward.

    python benchmarks/sigreg.py

Projections [4, 256, 512], 1,024 directions, 17 knots, float32, all cores.
"""

import torch
from timing import table
from torch import Tensor

from levyjepa.objectives import SIGReg


def plain(z: Tensor, directions: Tensor) -> Tensor:
    """SIGReg as LeJEPA's text writes it: waves in a [views, samples, directions, knots] array."""
    u = torch.linspace(0, 3, 17)
    phi = torch.exp(-(u**2) / 2)
    angle = (z @ directions)[..., None] * u
    gap = (angle.cos().mean(1) - phi) ** 2 + angle.sin().mean(1) ** 2
    return 2 * torch.trapezoid(gap * phi, u).mean() * z.shape[1]


def main() -> None:
    torch.manual_seed(0)
    z = torch.randn(4, 256, 512).requires_grad_()
    directions = torch.nn.functional.normalize(torch.randn(512, 1024), dim=0)
    fused = SIGReg()
    compiled = torch.compile(SIGReg())
    assert torch.allclose(fused(z, directions), plain(z, directions), rtol=1e-4)

    def step(loss: Tensor) -> None:
        loss.backward()
        z.grad = None

    cases = {
        "plain": lambda: step(plain(z, directions)),
        "fused": lambda: step(fused(z, directions)),
        "fused and compiled": lambda: step(compiled(z, directions)),
    }
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(table(cases, "plain")[0])


if __name__ == "__main__":
    main()
