"""A trained encoder as one file that PyTorch alone can run."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim

from levyjepa.training.loading import Trained

TOLERANCE = 1e-4  # of the largest value, by which a loaded program may differ


@dataclass(frozen=True)
class Exported:
    """Shapes without the batch, and how far the program is from the network."""

    images: tuple[int, ...]
    embedding: tuple[int, ...]
    tokens: tuple[int, ...]
    error: float  # the largest difference, over the largest value


class Exportable(nn.Module):
    """Images (B, 3, s, s) in [0, 1], or clips (B, T, 3, s, s), to embedding and tokens.

    Args:
        trained: Its encoder and normalization.
    """

    def __init__(self, trained: Trained) -> None:
        super().__init__()
        self.encoder = trained.network.encoder
        self.mean = nn.Buffer(torch.tensor(trained.mean)[:, None, None])
        self.std = nn.Buffer(torch.tensor(trained.std)[:, None, None])

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise and encode."""
        encoding = self.encoder((images - self.mean) / self.std)
        return encoding.embedding, encoding.tokens


def export(trained: Trained, path: str | Path) -> Exported:
    """Write the encoder by torch.export for batches of any size, load it and compare outputs.

    Args:
        trained: The network; the program takes its image size and frames.
        path: A file, "encoder.pt2"; `torch.export.load(path).module()` reads it.

    Raises:
        ValueError: A path that does not end in .pt2.
        RuntimeError: The loaded program differs from the network.
    """
    target = Path(path)
    if target.suffix != ".pt2":
        raise ValueError(f"`path` must end in .pt2, got {target}.")
    data = trained.config.data
    size = (3, data.image_size, data.image_size)
    shape = size if data.frames is None else (data.frames, *size)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(4, *shape, generator=generator)
    module = Exportable(trained).eval().requires_grad_(False)
    program = torch.export.export(
        module, (images[:2],), dynamic_shapes={"images": {0: Dim("batch")}}
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    torch.export.save(program, target)
    loaded = torch.export.load(target).module()
    errors = []
    for batch in (images[:1], images):
        pairs = list(zip(module(batch), loaded(batch), strict=True))
        errors += [float((a - b).abs().max() / a.abs().max()) for a, b in pairs]
    if not (error := max(errors)) < TOLERANCE:
        raise RuntimeError(f"{target} differs from the network by {error:.1g} of its values.")
    embedding, tokens = (tuple(output.shape[1:]) for output, _ in pairs)
    return Exported(shape, embedding, tokens, error)
