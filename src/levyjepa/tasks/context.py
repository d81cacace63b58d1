"""What a task is called with: a subject, the data, and features that are computed once."""

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from levyjepa.data.settings import DataSettings
from levyjepa.data.source import Source
from levyjepa.lattice import Stencil
from levyjepa.laws import Law
from levyjepa.tasks.features import FeatureCache, Features, Subject, frozen
from levyjepa.tasks.score import Picture


@dataclass(frozen=True)
class Context:
    """What a task is called with.

    `train` and `test` are the `Features` of the splits. `laws` holds, by name, each stencil that
    the prior looks at and the law of its increments; `prior` says whether the field was trained to
    follow them.
    """

    subject: Subject
    source: Source
    settings: DataSettings
    device: torch.device
    seed: int
    laws: Mapping[str, tuple[Stencil, Law]]
    prior: bool
    features: FeatureCache
    progress: Callable[[str], object] = lambda text: None
    folder: Path | None = None  # for large results, such as tracked masks
    pictures: list[Picture] = field(default_factory=list)

    @cached_property
    def train(self) -> Features:
        """The training split."""
        return self.features.read("train", self.subject.name)

    @cached_property
    def test(self) -> Features:
        """The test split; the training split where there is none."""
        return self.features.read(self.features.test_split, self.subject.name)

    @property
    def law(self) -> Law | None:
        """The law of the first stencil; None without laws."""
        return next((law for _, law in self.laws.values()), None)

    @property
    def patch_size(self) -> tuple[int, ...]:
        """Pixels of a patch, (h, w), of the trained encoder."""
        return tuple(self.features.subjects[0].encoder.patch_size)[-2:]

    def encode(self, images: Tensor) -> Any:
        """Encode uint8 images (B, 3, H, W), or clips (B, T, 3, H, W); results stay on `device`."""
        with frozen(self.subject.encoder.to(self.device)):
            return self.subject.encoder(self.features.normalize(images.to(self.device)))

    def picture(
        self, name: str, image: Any, title: str = "", caption: str = "", headline: bool = False
    ) -> None:
        """Keep a picture for the report; see `Picture`.

        Args:
            name: Differs from picture to picture of a task.
            image: A matplotlib figure, an array (H, W, 3) of uint8, or bytes of a PNG.
            title, caption, headline: As of `Picture`.
        """
        if any(picture.name == name for picture in self.pictures):
            raise ValueError(f"`name` must differ from picture to picture, got {name!r} twice.")
        out = io.BytesIO(image if isinstance(image, bytes) else b"")
        if isinstance(image, np.ndarray):
            Image.fromarray(image).save(out, "png")
        elif not isinstance(image, bytes):
            image.savefig(out, format="png", dpi=160)
        self.pictures.append(Picture(name, out.getvalue(), title, caption, headline))
