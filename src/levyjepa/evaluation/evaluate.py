"""A network's frozen features, beside a random encoder's and raw pixels."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from levyjepa.checks import count
from levyjepa.conf.schema import DataConfig, ViewsConfig
from levyjepa.data import Photometric, Source, normalise, test_loader, train_loader
from levyjepa.data.views import generator_of
from levyjepa.evaluation.accuracy import Accuracy
from levyjepa.evaluation.clips import judge_clips
from levyjepa.evaluation.features import Features, extract, frozen, pixels
from levyjepa.evaluation.knn import knn
from levyjepa.evaluation.masks import judge_by_masks
from levyjepa.evaluation.probe import linear_probe, low_shot
from levyjepa.evaluation.representation import examine
from levyjepa.evaluation.segmentation import Overlays
from levyjepa.evaluation.tracking import judge_sequences
from levyjepa.lattice import Stencil
from levyjepa.laws import Law
from levyjepa.models import Network

NEIGHBOURS = 20
SCENES = 200  # of train and of test, at most, that are followed
FEW = {"1_percent": 0.01, "10_percent": 0.1, "5_per_class": 5}
DRAWS = 3
EXAMINED = 1000  # images


def evaluate(
    network: Network,
    source: Source,
    config: DataConfig,
    *,
    device: str | torch.device = "cpu",
    seed: int = 0,
    limit: int | None = None,
    law: Law | None = None,
    tested: Mapping[str, tuple[Stencil, Law]] | None = None,
    prior: bool = False,
    views: ViewsConfig | None = None,
    progress: Callable[[str], None] = lambda what: None,
    show: Callable[[str, Overlays], None] = lambda name, shown: None,
    baselines: Mapping[str, Any] | None = None,
    followed: Path | None = None,
) -> dict[str, Any]:
    """Judge frozen features by labels, masks, scenes, objects followed and their own health.

    Args:
        network: What was trained.
        source: Images or clips to fit and to judge, with labels, masks, scenes or none of them.
        config: How they are loaded. With a `holdout`, masks of held-out training images are
            judged in the place of the validation split's.
        device: Where features are computed.
        seed: Draws the random encoder, the probe's validation part, few labels and the `limit`.
        limit: At most so many training images; None for all.
        law: Of the field's increments, for maps of jumps; None leaves them out.
        tested: Whose increments are compared with which law, by name.
        prior: Whether the field was trained to follow the laws at these stencils.
        views: Of which two are drawn to measure alignment; None leaves it out.
        progress: Told what begins.
        show: As `judge_by_masks` takes it; the network is called "network".
        baselines: What an evaluation that differs in nothing but the network's weights found under
            "random_encoder" and "pixels"; None finds it.
        followed: Where masks of sequences' objects are written; None writes none.

    Returns:
        What `evaluation.json` holds: of labelled images "linear_probe", "knn" and "low_shot", a
        leaf {"accuracy", "n", ...} each, and "mean_token" with the first two of the mean patch
        token in the place of the embedding; of images with masks "segmentation" and
        "boundaries"; of scenes what `judge_clips` gives, of sequences what `judge_sequences` does;
        of two images or more "representation".
        The same under "random_encoder" and, as far as it has them, under "pixels".

    Raises:
        ValueError: Labels without test images, or too few images for a probe.
    """
    if source.classes and source.test is None:
        raise ValueError(f"`source` must have test images to be evaluated, got {source.name}.")
    prepare = partial(normalise, mean=source.mean, std=source.std)
    networks = {"network": network}
    if baselines is None:
        networks["random_encoder"] = network.untrained(seed)
    found: dict[str, dict[str, Any]] = {"network": {}, "random_encoder": {}, "pixels": {}}
    if source.classes and source.test is not None:
        train = test_loader(subset(source.train, limit, seed), config)
        test = test_loader(source.test, config)
        read: dict[str, Callable[[Iterable[Any]], Features]] = {
            name: partial(extract, model, normalise=prepare, device=device)
            for name, model in networks.items()
        }
        if baselines is None:
            read["pixels"] = pixels
        for name, features in read.items():
            progress(f"{name}: features of all images")
            seen, judged = features(train), features(test)
            progress(f"{name}: linear probe and nearest neighbours")
            found[name] |= _judge(seen, judged, seed)
            if seen.tokens is not None and judged.tokens is not None:
                found[name]["mean_token"] = _judge(
                    Features(seen.tokens, seen.labels), Features(judged.tokens, judged.labels), seed
                )
            if name in networks:
                progress(f"{name}: few labels")
                found[name]["low_shot"] = _few(seen, judged, seed)
    kept = {
        name: (stencil, its.constant_copy().cpu())
        for name, (stencil, its) in (tested or {}).items()
    }
    law = None if law is None else law.constant_copy().cpu()
    for name, model in networks.items():
        progress(f"{name}: health of the representation")
        embedding, projection, field, both = _look(
            model, source, config, prepare, views, device, seed
        )
        if len(embedding) > 1:
            health = examine(embedding, projection, field, kept, both, seed)
            found[name]["representation"] = health.as_dict()
    if source.masks is not None:
        by_masks = judge_by_masks(
            networks,
            source.masks((config.image_size, config.image_size)),
            prepare,
            device,
            law=law,
            trained={"network": tuple(stencil for stencil, _ in kept.values())} if prior else None,
            holdout=config.holdout > 0,
            limit=limit if config.limit is None else config.limit,
            pixels=baselines is None,
            progress=progress,
            show=show,
        )
        for name, scores in by_masks.items():
            found[name] |= scores
    if source.scenes is not None:
        by_clips = judge_clips(
            networks,
            *source.scenes,
            prepare,
            device,
            seed=seed,
            limit=SCENES if limit is None else min(limit, SCENES),
            pixels=baselines is None,
            progress=progress,
        )
        for name, scores in by_clips.items():
            found[name] |= scores
    if source.sequences:
        with TemporaryDirectory() as passing:
            by_objects = judge_sequences(
                networks,
                source.sequences,
                prepare,
                config.image_size,
                followed or Path(passing),
                device,
                frames=config.frames,
                pixels=baselines is None,
                progress=progress,
            )
        for name, scores in by_objects.items():
            found[name] |= scores
    own = found.pop("network")
    return {**own, **(baselines or {name: scores for name, scores in found.items() if scores})}


def subset(dataset: Dataset, limit: int | None, seed: int) -> Dataset:
    """Draw at most `limit` images of a data set, in a seeded order; None leaves it as it is."""
    if limit is None:
        return dataset
    size: int = len(dataset)  # pyright: ignore[reportArgumentType]
    generator = torch.Generator().manual_seed(seed)
    return Subset(
        dataset, torch.randperm(size, generator=generator)[: count("limit", limit)].tolist()
    )


def _judge(train: Features, test: Features, seed: int) -> dict[str, Any]:
    neighbours = min(NEIGHBOURS, len(train.labels))
    return {
        "linear_probe": _leaf(linear_probe(train, test, seed)),
        "knn": _leaf(knn(train, test, neighbours)),
    }


def _few(train: Features, test: Features, seed: int) -> dict[str, Any]:
    """Low-shot leaves; those that leave no class with two labels are left out."""
    most = int(train.labels.bincount().max())
    leaves = {}
    for name, labels in FEW.items():
        if (labels if labels >= 1 else round(labels * most)) >= 2:
            found = low_shot(train, test, labels, DRAWS, seed)
            leaves[name] = {
                "accuracy": found.accuracy,
                "deviation": found.deviation,
                "labels": found.labels,
                "draws": len(found.draws),
                "n": found.draws[0].n,
            }
    return leaves


def _leaf(accuracy: Accuracy) -> dict[str, float]:
    low, high = accuracy.interval
    return {
        "accuracy": accuracy.value,
        "correct": accuracy.correct,
        "n": accuracy.n,
        "low": low,
        "high": high,
    }


def _look(
    network: Network,
    source: Source,
    config: DataConfig,
    prepare: Callable[[Tensor], Tensor],
    views: ViewsConfig | None,
    device: str | torch.device,
    seed: int,
) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor] | None]:
    """Embeddings, projections, fields and two views' embeddings of at most 1,000 images."""
    images = subset(source.test or source.train, EXAMINED, seed)
    parts, pairs = [], []
    with frozen(network.to(device)):
        for batch in test_loader(images, config):
            output = network(prepare(batch.images.to(device)))
            shown = output.embedding, output.projection, output.field
            parts.append([tensor.float().cpu() for tensor in shown])
        if views is not None and views.groups[0].count > 1:
            size: int = len(images)  # pyright: ignore[reportArgumentType]
            few = replace(config, batch_size=min(config.batch_size, size))
            colours = Photometric(views, source.mean, source.std).to(device)
            generator = generator_of(seed)
            for batch in train_loader(replace(source, train=images), few, views, seed):
                two = colours(batch.views[0][:2].to(device), generator)
                pairs.append([network.encoder(view).embedding.float().cpu() for view in two])
    embedding, projection, field = (torch.cat(part) for part in zip(*parts, strict=True))
    both = None
    if pairs:
        one, other = (torch.cat(part) for part in zip(*pairs, strict=True))
        both = one, other
    return embedding, projection, field, both
