"""Features of data: each image is decoded once and goes through each encoder once."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import chain
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
    labels: Tensor  # (N,) int64, -1 without a label
    names: tuple[str, ...]  # N
    rows: Tensor  # (M,) int64
    images: Tensor  # (M, 3, s, s) uint8; of clips (M, T, 3, s, s)
    tokens: Tensor  # (M, h, w, C) float32; of clips (M, t, h, w, C)
    projection: Tensor | None = None  # (N, D) float32; None without that head
    field: Tensor | None = None  # (M, h, w, P), the tokens' projection; None without that head
    views: Tensor | None = None  # (M, 2, E), embeddings of two views of the images
    masks: Tensor | None = None  # (M, s, s) int64, -1 where ignored
    scenes: tuple[Any, ...] = ()  # M `DigitClip`s, where they are known


@dataclass
class FeatureCache:
    """Reads each split once for all subjects.

    Raises:
        ValueError: The source's mean and std are not measured.
    """

    subjects: list[Subject]  # the trained encoder first
    source: Source
    settings: DataSettings
    device: torch.device  # where encoders run; features end on the CPU
    seed: int = 0  # draws views
    views: ViewsSettings | None = None  # embed two of these views of each test image kept
    progress: Callable[[str], object] = lambda text: None
    shared: dict[str, Any] = field(default_factory=dict)  # computed once by tasks for all subjects
    _splits: dict[str, dict[str, Features | Exception]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        mean, std = self.source.mean, self.source.std
        if mean is None or std is None:
            raise ValueError(
                f"`source` must have mean and std, got {self.source.name} without them; "
                "`open_source` measures them."
            )
        self.statistics = mean, std
        self.test_split = "train" if self.source.test is None else "test"

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
        dataset = getattr(self.source, split)
        views = self.views if split == self.test_split else None
        views = views if views is not None and views.groups[0].count > 1 else None
        colors = None if views is None else Photometric(views, *self.statistics).to(self.device)
        generator = generator_of(self.seed)
        kept = self._kept(len(dataset))
        loader = DataLoader(
            _Items(dataset, self.settings, kept, self.source.truth, views, self.seed),
            batch_size=self.settings.batch_size,
            num_workers=self.settings.workers,
            collate_fn=_collate,
        )
        seen, corrupt, common = 0, [], []
        encoded = {subject.name: [] for subject in self.subjects}
        failed: dict[str, Exception] = {}
        for batch in loader:
            corrupt += batch.pop("corrupt", [])
            if not batch:
                continue
            images, rows = batch.pop("images"), torch.tensor(batch.pop("kept")).nonzero()[:, 0]
            pairs = batch.pop("views", None)
            if colors is not None and pairs is not None:
                pairs = colors(pairs.transpose(0, 1).to(self.device), generator)
            inputs = self.normalize(images.to(self.device))
            for subject in self.subjects:
                try:
                    encoded[subject.name].append(self._encode(subject, inputs, rows, pairs))
                except Exception as error:  # the others go on
                    failed[subject.name] = error
            batch["labels"] = torch.tensor(batch["labels"])
            # copies, as workers share only so much memory
            common.append(deepcopy(batch) | {"images": images[rows], "rows": seen + rows})
            seen += len(images)
        if corrupt:
            some = ", ".join(corrupt[:10])
            log.warning("%d images of the %s split can't be decoded: %s", len(corrupt), split, some)
        fields = _join(common)
        if not len(fields.get("rows", ())):
            raise ValueError(f"The {split} split of {self.source.name} has no image to evaluate.")
        return {
            name: failed.get(name) or Features(**fields, **_join(tensors))
            for name, tensors in encoded.items()
        }

    def _encode(
        self, subject: Subject, inputs: Tensor, rows: Tensor, pairs: Tensor | None
    ) -> dict[str, Tensor]:
        heads = [h for h in (subject.projection, subject.patch_projection) if h is not None]
        with frozen(*(module.to(self.device) for module in (subject.encoder, *heads))):
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
            if pairs is not None:
                tensors["views"] = torch.stack([subject.encoder(v).embedding for v in pairs], 1)
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


class _Items(Dataset):
    """Whole images, with what is known of those that are kept; of corrupt ones the error alone."""

    def __init__(self, *fields: Any) -> None:
        self.dataset, self.settings, self.kept, self.truth, self.views, self.seed = fields

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        settings, kept = self.settings, index in self.kept
        found: dict[str, Any] = {"names": item_name(self.dataset, index), "kept": kept}
        try:
            item, label = self.dataset[index]
            image: Any = item
            if settings.frames is not None:
                image = middle(item, settings.frames, settings.stride, settings.rate)
            if kept and self.views is not None:
                pair = two_views(item, self.views, settings, (self.seed, index))
                found["views"] = torch.stack(pair)
            if kept and self.truth == "masks":
                found["masks"] = fit_mask(self.dataset.truth(index), settings.image_size)
            if kept and self.truth == "scenes":
                found["scenes"] = self.dataset.truth(index)
        except CorruptImageError as error:
            return {"corrupt": str(error)}
        return found | {"images": whole(image, settings.image_size), "labels": int(label)}


def _collate(items: list[dict[str, Any]]) -> dict[str, Any]:
    """All values by name; tensors are stacked."""
    names = dict.fromkeys(name for item in items for name in item)
    batch = {name: [item[name] for item in items if name in item] for name in names}
    return {n: torch.stack(v) if isinstance(v[0], Tensor) else v for n, v in batch.items()}


def _join(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Batches in a row: tensors, else tuples."""
    joined: dict[str, Any] = {}
    for name in dict.fromkeys(name for part in parts for name in part):
        values = [part[name] for part in parts if name in part]
        joined[name] = torch.cat(values) if isinstance(values[0], Tensor) else (*chain(*values),)
    return joined
