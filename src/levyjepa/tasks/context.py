"""What tasks share: subjects, data, and features that are computed once.

Each split is read once. Every image is decoded once and goes through every subject's encoder once,
however many tasks ask for it.
"""

import io
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from levyjepa.data.clips import middle
from levyjepa.data.images import CorruptImageError
from levyjepa.data.loader import two_views, whole
from levyjepa.data.masks import fit_mask
from levyjepa.data.settings import DataSettings, ViewsSettings
from levyjepa.data.source import Source, item_name
from levyjepa.data.views import Photometric, generator_of, normalize
from levyjepa.lattice import Stencil
from levyjepa.laws import Law
from levyjepa.tasks.score import Picture

log = logging.getLogger(__name__)

DENSE = 512  # images of a split whose pixels and tokens are kept, unless they have masks
SCENES = 200  # clips with a known scene that are kept


@dataclass(frozen=True)
class Subject:
    """What is evaluated: an encoder, and the heads that were trained with it.

    Args:
        name: "trained", "untrained" or "pixels".
        encoder: From normalized images to an `Encoding`; see `levyjepa.models.Encoder`.
        projection: From embeddings (B, E) to what SIGReg sees, (B, D).
        patch_projection: From tokens (B, *grid, C) to the field that the prior sees.
    """

    name: str
    encoder: Any
    projection: nn.Module | None = None
    patch_projection: nn.Module | None = None


@dataclass(frozen=True)
class Features:
    """One split, as one subject sees it.

    There are N images, and M of them, `rows`, whose pixels and tokens are kept: all that have
    masks, else a seeded sample of 512; of scenes 200, evenly spaced.
    """

    embedding: Tensor  # (N, E) float32
    mean_token: Tensor  # (N, C) float32
    projection: Tensor | None  # (N, D) float32; None without that head
    labels: Tensor  # (N,) int64, -1 without a label
    names: tuple[str, ...]  # N
    rows: Tensor  # (M,) int64
    images: Tensor  # (M, 3, s, s) uint8; of clips (M, T, 3, s, s)
    tokens: Tensor  # (M, h, w, C) float32; of clips (M, t, h, w, C)
    field: Tensor | None  # (M, h, w, P), the tokens' projection; None without that head
    views: tuple[Tensor, Tensor] | None  # (M, E) each, embeddings of two views of the images
    masks: Tensor | None  # (M, s, s) int64, -1 where ignored
    scenes: tuple[Any, ...]  # M `DigitClip`s, where they are known


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
    features: "FeatureCache"
    progress: Callable[[str], None] = lambda text: None
    folder: Path | None = None  # for large results, such as tracked masks
    pictures: list[Picture] = field(default_factory=list)

    @cached_property
    def train(self) -> Features:
        """The training split."""
        return self.features.read("train")[self.subject.name]

    @cached_property
    def test(self) -> Features:
        """The test split; the training split where there is none."""
        split = "train" if self.source.test is None else "test"
        return self.features.read(split)[self.subject.name]

    @property
    def law(self) -> Law | None:
        """The law of the first stencil; None without laws."""
        return next((law for _, law in self.laws.values()), None)

    @property
    def patch_size(self) -> tuple[int, ...]:
        """Pixels of a patch, (h, w), of the trained encoder."""
        return tuple(self.features.patch_size)

    def encode(self, images: Tensor) -> Any:
        """Encode uint8 images (B, 3, H, W), or clips (B, T, 3, H, W); results stay on `device`."""
        with frozen(self.subject.encoder.to(self.device)):
            return self.subject.encoder(self.features.normalize(images.to(self.device)))

    def picture(
        self, name: str, image: Any, title: str = "", caption: str = "", headline: bool = False
    ) -> None:
        """Keep a picture for the report.

        Args:
            name: A file's stem.
            image: A matplotlib figure, an array (H, W, 3) of uint8, or bytes of a PNG.
            title: Above it.
            caption: What to look for.
            headline: Whether it comes first on the page.
        """
        if not isinstance(image, bytes):
            out = io.BytesIO()
            if isinstance(image, np.ndarray):
                Image.fromarray(image).save(out, "png")
            else:
                image.savefig(out, format="png", dpi=160)
            image = out.getvalue()
        self.pictures.append(Picture(name, image, title, caption, headline))


class FeatureCache:
    """Reads each split once for all subjects.

    Args:
        subjects: Whose features.
        source: The data.
        settings: Image size, frames, batch size and workers.
        device: Where encoders run; features end on the CPU.
        seed: Draws the rows that are kept, and views.
        views: Two of these views of the kept test images are embedded; None: none.
        patch_size: Pixels of a patch of the trained encoder.
        progress: Called with what begins.
    """

    def __init__(
        self,
        subjects: list[Subject],
        source: Source,
        settings: DataSettings,
        *,
        device: torch.device,
        seed: int = 0,
        views: ViewsSettings | None = None,
        patch_size: tuple[int, ...] = (),
        progress: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.subjects, self.source, self.settings = subjects, source, settings
        self.device, self.seed, self.views = device, seed, views
        self.patch_size, self.progress = patch_size, progress
        self._splits: dict[str, dict[str, Features]] = {}

    def normalize(self, images: Tensor) -> Tensor:
        """From uint8 pixels to what encoders take."""
        assert self.source.mean is not None and self.source.std is not None
        return normalize(images, self.source.mean, self.source.std)

    def read(self, split: str) -> dict[str, Features]:
        """Return the features of a split, "train" or "test", by subject."""
        if split not in self._splits:
            self.progress(f"features of the {split} split")
            self._splits[split] = self._read(split)
        return self._splits[split]

    def _read(self, split: str) -> dict[str, Features]:
        dataset = getattr(self.source, split)
        kept = self._kept(len(dataset))
        views = self.views if self.views is not None and self.views.groups[0].count > 1 else None
        views = views if split == "test" else None
        colors = views and Photometric(views, self.source.mean, self.source.std).to(self.device)
        loader = DataLoader(
            _Items(dataset, self.settings, kept, self.source.truth, views, self.seed),
            batch_size=self.settings.batch_size,
            num_workers=self.settings.workers,
            collate_fn=list,
        )
        generator = generator_of(self.seed)
        whole: list[_Item] = []  # every item; the pixels of those that are not kept are dropped
        corrupt: list[str] = []
        parts: dict[str, list[dict[str, Tensor]]] = {s.name: [] for s in self.subjects}
        for batch in loader:
            corrupt += [item for item in batch if isinstance(item, str)]
            items: list[_Item] = [item for item in batch if not isinstance(item, str)]
            if not items:
                continue
            inputs = self.normalize(torch.stack([item.image for item in items]).to(self.device))
            rows = [i for i, item in enumerate(items) if item.kept]
            pairs = None
            if colors is not None and rows:
                pairs = torch.stack([torch.stack([items[i].views[v] for i in rows]) for v in (0, 1)])
                pairs = colors(pairs.to(self.device), generator)
            for subject in self.subjects:
                parts[subject.name].append(self._look(subject, inputs, rows, pairs))
            whole += [item if item.kept else item.without_pixels() for item in items]
        if corrupt:
            names = ", ".join(corrupt[:10])
            log.warning("%d images of the %s split can't be decoded: %s", len(corrupt), split, names)
        if not whole:
            raise ValueError(f"The {split} split of {self.source.name} holds no image to evaluate.")
        return {name: _gather(whole, found) for name, found in parts.items()}

    def _look(
        self, subject: Subject, inputs: Tensor, rows: list[int], pairs: Tensor | None
    ) -> dict[str, Tensor]:
        heads = [h for h in (subject.projection, subject.patch_projection) if h is not None]
        modules = [module.to(self.device) for module in (subject.encoder, *heads)]
        with frozen(*modules):
            encoding = subject.encoder(inputs)
            seen = {
                "embedding": encoding.embedding,
                "mean_token": encoding.tokens.flatten(1, -2).mean(1),
                "tokens": encoding.tokens[rows],
            }
            if subject.projection is not None:
                seen["projection"] = subject.projection(encoding.embedding)
            if subject.patch_projection is not None:
                seen["field"] = subject.patch_projection(encoding.tokens[rows])
            for number, view in enumerate(() if pairs is None else pairs):
                seen[f"view {number}"] = subject.encoder(view).embedding
        return {name: value.float().cpu() for name, value in seen.items()}

    def _kept(self, size: int) -> set[int]:
        """The items whose pixels and tokens are kept."""
        if self.source.truth == "masks":
            return set(range(size))
        if self.source.truth == "scenes":
            return {i * size // min(size, SCENES) for i in range(min(size, SCENES))}
        generator = torch.Generator().manual_seed(self.seed)
        return set(torch.randperm(size, generator=generator)[:DENSE].tolist())


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; each module gets its own mode back."""
    training = [part for module in modules for part in module.modules() if part.training]
    for module in modules:
        module.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for part in training:
            part.training = True


@dataclass(frozen=True)
class _Item:
    """One image or clip, as the loader gives it."""

    label: int
    name: str
    kept: bool
    image: Tensor | None  # (3, s, s) uint8; of clips (T, 3, s, s)
    views: tuple[Tensor, ...] = ()
    mask: Tensor | None = None
    scene: Any = None

    def without_pixels(self) -> "_Item":
        return _Item(self.label, self.name, False, None)


class _Items(Dataset):
    """Whole images with what is kept of some; a name alone where one can't be decoded."""

    def __init__(
        self,
        dataset: Any,
        settings: DataSettings,
        kept: set[int],
        truth: str,
        views: ViewsSettings | None,
        seed: int,
    ) -> None:
        self.dataset, self.settings, self.kept = dataset, settings, kept
        self.truth, self.views, self.seed = truth, views, seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> "_Item | str":
        settings, kept, name = self.settings, index in self.kept, item_name(self.dataset, index)
        try:
            source, label = self.dataset[index]
            image: Any = source
            if settings.frames is not None:
                image = middle(source, settings.frames, settings.stride, settings.rate)
        except CorruptImageError as error:
            return str(error)
        views = mask = scene = None
        if kept and self.views is not None:
            views = two_views(source, self.views, settings, (self.seed, index))
        if kept and self.truth == "masks":
            mask = fit_mask(self.dataset.truth(index), settings.image_size)
        if kept and self.truth == "scenes":
            scene = self.dataset.truth(index)
        pixels = whole(image, settings.image_size)
        return _Item(int(label), name, kept, pixels, views or (), mask, scene)


def _gather(items: list[_Item], parts: list[dict[str, Tensor]]) -> Features:
    joined = {name: torch.cat([part[name] for part in parts if name in part]) for name in parts[0]}
    for name in ("view 0", "view 1"):  # of batches that keep a row alone
        if found := [part[name] for part in parts if name in part]:
            joined[name] = torch.cat(found)
    rows = [i for i, item in enumerate(items) if item.kept]
    kept = [items[i] for i in rows]
    images = [item.image for item in kept if item.image is not None]
    masks = [item.mask for item in kept if item.mask is not None]
    return Features(
        embedding=joined["embedding"],
        mean_token=joined["mean_token"],
        projection=joined.get("projection"),
        labels=torch.tensor([item.label for item in items], dtype=torch.int64),
        names=tuple(item.name for item in items),
        rows=torch.tensor(rows, dtype=torch.int64),
        images=torch.stack(images),
        tokens=joined["tokens"],
        field=joined.get("field"),
        views=(joined["view 0"], joined["view 1"]) if "view 0" in joined else None,
        masks=torch.stack(masks) if masks else None,
        scenes=tuple(item.scene for item in kept if item.scene is not None),
    )
