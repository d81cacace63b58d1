"""Features of data, computed once for all tasks.

Each split is read once. Every image is decoded once and goes through every subject's encoder once,
however many tasks ask for it.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from levyjepa.data.clips import middle
from levyjepa.data.images import CorruptImageError
from levyjepa.data.loader import two_views, whole
from levyjepa.data.masks import fit_mask
from levyjepa.data.settings import DataSettings, ViewsSettings
from levyjepa.data.source import Source, item_name
from levyjepa.data.views import Photometric, generator_of, normalize

log = logging.getLogger(__name__)

DENSE = 512  # images of a split whose pixels and tokens are kept, unless they have masks
CLIPS = 64  # clips of which they are kept
SCENES = 200  # clips with a known scene of which they are kept


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

    There are N images. Of M of them, `rows`, pixels and tokens are kept: of all that have masks,
    else of a sample of 512 images or 64 clips, the same for every seed; of 200 scenes.
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


class FeatureCache:
    """Reads each split once for all subjects.

    Args:
        subjects: Whose features.
        source: The data.
        settings: Image size, frames, batch size and workers.
        device: Where encoders run; features end on the CPU.
        seed: Draws views.
        views: Two of these views of the test images that are kept are embedded; None: none.
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
        progress: Callable[[str], object] = lambda text: None,
    ) -> None:
        self.subjects, self.source, self.settings = subjects, source, settings
        self.device, self.seed, self.views = device, seed, views
        self.patch_size, self.progress = patch_size, progress
        self.shared: dict[str, Any] = {}  # what tasks compute once for all subjects
        self._splits: dict[str, dict[str, Features | Exception]] = {}

    @property
    def test_split(self) -> str:
        """Which split is tested on: "train" where the source has no other."""
        return "train" if self.source.test is None else "test"

    @property
    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation of the source's pixels.

        Raises:
            ValueError: They are not measured.
        """
        mean, std = self.source.mean, self.source.std
        if mean is None or std is None:
            raise ValueError(
                f"`source` must have mean and std, got {self.source.name} without them; "
                "`open_source` measures them."
            )
        return mean, std

    def normalize(self, images: Tensor) -> Tensor:
        """Return uint8 pixels as encoders take them."""
        return normalize(images, *self.statistics)

    def read(self, split: str, subject: str) -> Features:
        """Return the features of a split, "train" or "test", as one subject sees it.

        Raises:
            Exception: Whatever the data or the subject's encoder raises, at each call.
        """
        if split not in self._splits:
            self.progress(f"features of the {split} split")
            try:
                self._splits[split] = self._read(split)
            except Exception as error:  # not tried again by the next task
                self._splits[split] = {each.name: error for each in self.subjects}
        found = self._splits[split][subject]
        if isinstance(found, Exception):
            raise found
        return found

    def _read(self, split: str) -> dict[str, Features | Exception]:
        source, dataset = self.source, getattr(self.source, split)
        views = self.views if split == self.test_split else None
        views = views if views is not None and views.groups[0].count > 1 else None
        colors = None
        if views is not None:
            mean, std = self.statistics
            colors = Photometric(views, mean, std).to(self.device)
        loader = DataLoader(
            _Items(
                dataset, self.settings, self._kept(len(dataset)), source.truth, views, self.seed
            ),
            batch_size=self.settings.batch_size,
            num_workers=self.settings.workers,
            collate_fn=_collate,
        )
        generator = generator_of(self.seed)
        labels: list[int] = []
        names: list[str] = []
        corrupt: list[str] = []
        rows: list[int] = []
        scenes: list[Any] = []
        images: list[Tensor] = []
        masks: list[Tensor] = []
        parts: dict[str, list[dict[str, Tensor]]] = {s.name: [] for s in self.subjects}
        failed: dict[str, Exception] = {}
        for batch in loader:
            corrupt += batch.corrupt
            if batch.images is None:
                continue
            pairs = None
            if colors is not None and batch.views is not None:
                pairs = colors(batch.views.to(self.device), generator)
            inputs = self.normalize(batch.images.to(self.device))
            for subject in self.subjects:
                try:
                    parts[subject.name].append(self._encode(subject, inputs, batch.kept, pairs))
                except Exception as error:  # the others go on
                    failed[subject.name] = error
            rows += [len(labels) + i for i in batch.kept]
            labels, names = labels + batch.labels, names + batch.names
            scenes += batch.scenes
            images.append(batch.images[batch.kept])
            masks += [] if batch.masks is None else [batch.masks.clone()]
        if corrupt:
            some = ", ".join(corrupt[:10])
            log.warning("%d images of the %s split can't be decoded: %s", len(corrupt), split, some)
        if not rows:
            raise ValueError(f"The {split} split of {source.name} has no image to evaluate.")
        common: dict[str, Any] = {
            "labels": torch.tensor(labels, dtype=torch.int64),
            "names": tuple(names),
            "rows": torch.tensor(rows, dtype=torch.int64),
            "images": torch.cat(images),
            "masks": torch.cat(masks) if masks else None,
            "scenes": tuple(scenes),
        }
        return {
            name: failed[name] if name in failed else _gather(some, common)
            for name, some in parts.items()
        }

    def _encode(
        self, subject: Subject, inputs: Tensor, rows: list[int], pairs: Tensor | None
    ) -> dict[str, Tensor]:
        heads = [h for h in (subject.projection, subject.patch_projection) if h is not None]
        modules = [module.to(self.device) for module in (subject.encoder, *heads)]
        with frozen(*modules):
            encoding = subject.encoder(inputs)
            tensors = {
                "embedding": encoding.embedding,
                "mean_token": encoding.tokens.flatten(1, -2).mean(1),
                "tokens": encoding.tokens[rows],
            }
            if subject.projection is not None:
                tensors["projection"] = subject.projection(encoding.embedding)
            if subject.patch_projection is not None:
                tensors["field"] = subject.patch_projection(tensors["tokens"])
            for number, view in enumerate(() if pairs is None else pairs):
                tensors[f"view {number}"] = subject.encoder(view).embedding
        return {name: value.float().cpu() for name, value in tensors.items()}

    def _kept(self, size: int) -> set[int]:
        """The items whose pixels and tokens are kept, whatever the seed."""
        if self.source.truth == "masks":
            return set(range(size))
        if self.source.truth == "scenes":
            return {i * size // min(size, SCENES) for i in range(min(size, SCENES))}
        most = DENSE if self.settings.frames is None else CLIPS
        return set(torch.randperm(size, generator=torch.Generator().manual_seed(0))[:most].tolist())


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
    """One image or clip, as a worker prepares it."""

    label: int
    name: str
    kept: bool
    image: Tensor  # (3, s, s) uint8; of clips (T, 3, s, s)
    views: tuple[Tensor, ...] = ()
    mask: Tensor | None = None
    scene: Any = None


@dataclass(frozen=True)
class _Batch:
    """B images, and what is kept of k of them."""

    corrupt: list[str]  # names
    labels: list[int]
    names: list[str]
    kept: list[int]  # places in the batch
    images: Tensor | None  # (B, 3, s, s) uint8; of clips (B, T, 3, s, s); None without any
    views: Tensor | None  # (2, k, 3, s, s) uint8
    masks: Tensor | None  # (k, s, s) int64
    scenes: list[Any]


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
        settings, kept = self.settings, index in self.kept
        views = mask = scene = None
        try:
            item, label = self.dataset[index]
            image: Any = item
            if settings.frames is not None:
                image = middle(item, settings.frames, settings.stride, settings.rate)
            if kept and self.views is not None:
                views = two_views(item, self.views, settings, (self.seed, index))
            if kept and self.truth == "masks":
                mask = fit_mask(self.dataset.truth(index), settings.image_size)
            if kept and self.truth == "scenes":
                scene = self.dataset.truth(index)
        except CorruptImageError as error:
            return str(error)
        name, pixels = item_name(self.dataset, index), whole(image, settings.image_size)
        return _Item(int(label), name, kept, pixels, views or (), mask, scene)


def _collate(items: list[_Item | str]) -> _Batch:
    good = [item for item in items if isinstance(item, _Item)]
    kept = [item for item in good if item.kept]
    views = [torch.stack(item.views) for item in kept if item.views]
    masks = [item.mask for item in kept if item.mask is not None]
    return _Batch(
        [item for item in items if isinstance(item, str)],
        [item.label for item in good],
        [item.name for item in good],
        [place for place, item in enumerate(good) if item.kept],
        torch.stack([item.image for item in good]) if good else None,
        torch.stack(views, 1) if views else None,
        torch.stack(masks) if masks else None,
        [item.scene for item in kept if item.scene is not None],
    )


def _gather(parts: list[dict[str, Tensor]], common: dict[str, Any]) -> Features:
    joined: dict[str, Tensor] = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        joined[name] = torch.cat([part[name] for part in parts if name in part])
    return Features(
        embedding=joined["embedding"],
        mean_token=joined["mean_token"],
        projection=joined.get("projection"),
        tokens=joined["tokens"],
        field=joined.get("field"),
        views=(joined["view 0"], joined["view 1"]) if "view 0" in joined else None,
        **common,
    )
