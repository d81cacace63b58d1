"""Arrays with names, kept in a file."""

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Self

import numpy as np


class Arrays:
    """What a frozen dataclass of arrays alone can do."""

    def save(self, path: str | Path) -> None:
        """Write an .npz of all arrays."""
        every: Any = asdict(self)  # pyright: ignore[reportArgumentType]
        np.savez_compressed(path, **every)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote."""
        names: Any = fields(cls)  # pyright: ignore[reportArgumentType]
        with np.load(path, allow_pickle=False) as arrays:
            return cls(**{field.name: arrays[field.name] for field in names})
