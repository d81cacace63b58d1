"""One training step: views to projections and fields, to the loss, to the optimizer."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.nn import functional as F
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics.classification import MulticlassAccuracy

from levyjepa import lattice, laws
from levyjepa.conf.compose import to_dict
from levyjepa.conf.schema import Config, TermConfig
from levyjepa.data import Batch, Photometric, TestBatch, normalise
from levyjepa.data.views import generator_of, seed_of
from levyjepa.ecf import Quadrature, equispaced, gauss_laguerre
from levyjepa.lattice import Stencil
from levyjepa.models import Network
from levyjepa.objectives import LeJEPA, LevyRegularizer, SIGReg, TotalVariation, VideoRegularizer
from levyjepa.objectives.video import KINDS

LOG_EVERY = 10  # steps
VIEWS, LOSS, NETWORK = range(3)  # what a step's random numbers are drawn for


class Diverged(RuntimeError):
    """A loss term or the weights stopped being finite."""


class LevyJEPA(LightningModule):
    """The network with its objective, views and online probe.

    Random numbers of a step are a function of (seed, step), and of the rank where ranks must
    differ, so a resumed run needs no generator's state.

    Args:
        config: Every setting.
        classes: Names of the classes; empty for unlabelled images, which get no probe.
        mean, std: Of the source's pixels in [0, 1], for each channel.
    """

    def __init__(
        self, config: Config, classes: Sequence[str], mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__()
        settings = to_dict(replace(config, run_dir=None))
        pixels = {"mean": list(map(float, mean)), "std": list(map(float, std))}
        self.save_hyperparameters(
            {"config": settings, "classes": list(classes), **pixels}, logger=False
        )
        self.config = config
        self.prior = config.objective.gamma > 0
        data = config.data
        self.network = Network(config.model, data.image_size, len(classes), self.prior, data.frames)
        self.objective = build_objective(config)
        self.photometric = Photometric(config.views, mean, std)
        self.accuracy = (
            MulticlassAccuracy(len(classes), average="micro", validate_args=False)
            if classes
            else None
        )
        self._broken: Tensor | None = None
        if config.trainer.compile:
            self.network.compile()

    @property
    def tested(self) -> dict[str, tuple[Stencil, laws.Law]]:
        """The stencils with the laws of their increments, as far as those are learned."""
        return laws_of(self.objective, self.config)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Return the loss of a batch of views, LeJEPA's and the probe's."""
        seed, step, rank = self.config.seed, self.global_step, self.global_rank
        torch.manual_seed(seed_of(seed, step, rank, NETWORK))  # stochastic depth has no generator
        generator = generator_of(seed, step, rank, VIEWS)
        embeddings, projections, fields = [], [], []
        for group in batch.views:
            views = self.photometric(group, generator)
            output = self.network(views.flatten(0, 1), field=self.prior)
            embeddings.append(output.embedding)
            projections.append(output.projection.float().unflatten(0, group.shape[:2]))
            fields.append(output.field)
        with torch.autocast(self.device.type, enabled=False):
            loss = self.objective(
                torch.cat(projections),
                [field.float() for field in fields] if self.prior else None,
                num_global=self.config.views.groups[0].count,
                generator=generator_of(seed, step, LOSS, device=self.device),
                mask=list(map(whole_tokens, batch.valid, fields))
                if self.prior and batch.valid
                else None,
            )
            terms = {"inv": loss.invariance, "sigreg": loss.sigreg}
            if self.prior:
                terms["levy"] = loss.levy
                terms |= {f"levy_{kind}": term for kind, term in (loss.kinds or {}).items()}
            total = loss.total
            if self.network.probe is not None:
                embedding = torch.cat(embeddings).detach().float()
                labels = batch.labels.repeat(len(embedding) // len(batch.labels))
                terms["probe_loss"] = F.cross_entropy(self.network.probe(embedding), labels)
                total = total + terms["probe_loss"]
        self._watch(terms)
        optimizer: Any = self.optimizers()
        logged = {"lejepa_loss": loss.total, **terms, "lr": optimizer.param_groups[0]["lr"]}
        for name, value in logged.items():
            self.log(f"train/{name}", value, prog_bar=name != "lr", batch_size=len(batch.labels))
        return total

    def validation_step(self, batch: TestBatch, index: int) -> None:
        """Count which of a batch of test images the online probe gets right."""
        if self.accuracy is None or self.network.probe is None:
            return
        images = normalise(batch.images, self.hparams["mean"], self.hparams["std"])
        embedding = self.network.encoder(images).embedding.float()
        self.accuracy(self.network.probe(embedding), batch.labels)
        self.log("test/acc", self.accuracy, prog_bar=True, batch_size=len(batch.labels))

    def configure_optimizers(self) -> Any:
        """AdamW with groups of the network, a learned law and the probe, scheduled by the step.

        A law's parameters are not drawn to 0, which is no smaller a law.
        """
        config, trainer = self.config.optimizer, self.trainer
        batch = self.config.data.batch_size * trainer.world_size
        scale = math.sqrt(batch / 256)
        probe = list(self.network.probe.parameters()) if self.network.probe is not None else []
        held = {id(parameter) for parameter in probe}
        rest = [p for p in self.network.parameters() if p.requires_grad and id(p) not in held]
        groups = [{"params": rest, "lr": config.lr * scale, "weight_decay": config.weight_decay}]
        if law := list(self.objective.parameters()):
            groups.append({"params": law, "lr": config.lr * scale, "weight_decay": 0.0})
        if probe:
            decay = config.probe_weight_decay
            groups.append({"params": probe, "lr": config.probe_lr * scale, "weight_decay": decay})
        floor = min(config.lr, config.probe_lr) * scale / 4
        steps = int(trainer.estimated_stepping_batches)
        warmup = min(round(config.warmup_epochs * trainer.num_training_batches), steps)
        curves: list[Callable[[int], float]] = [
            partial(schedule, warmup=warmup, steps=steps, floor=floor / group["lr"])
            for group in groups
        ]
        optimizer = AdamW(groups)
        scheduler = LambdaLR(optimizer, curves)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to write weights that are not finite."""
        if not all(parameter.isfinite().all() for parameter in self.network.parameters()):
            raise Diverged(self._farewell("The weights are", self.global_step))

    def _watch(self, terms: dict[str, Tensor]) -> None:
        """Raise Diverged if a term is not finite; on a GPU, look only as often as is logged."""
        values = torch.stack([term.detach() for term in terms.values()])
        seen = torch.where(values.isfinite(), math.inf, float(self.global_step))
        self._broken = seen if self._broken is None else torch.minimum(self._broken, seen)
        looks = self.global_step % LOG_EVERY == 0 or self.trainer.is_last_batch
        if looks or self.device.type == "cpu":
            step, term = self._broken.min(0)
            if step.isfinite():
                name = f"`train/{list(terms)[int(term)]}` is"
                raise Diverged(self._farewell(name, int(step)))

    def _farewell(self, what: str, step: int) -> str:
        callback: Any = self.trainer.checkpoint_callback
        last = Path(callback.dirpath or ".", "last.ckpt") if callback else Path("last.ckpt")
        left = (
            f"the last good checkpoint is {last}."
            if last.is_file()
            else "there is no checkpoint yet."
        )
        return f"{what} not finite at step {step}; {left}"


def build_objective(settings: Config) -> LeJEPA:
    """The loss that settings declare; without the prior where gamma is 0."""
    config, levy = settings.objective, None
    if config.gamma > 0:
        levy = TotalVariation() if config.prior == "total_variation" else _prior(settings)
    sigreg = SIGReg(num_directions=config.num_directions, knots=config.knots)
    return LeJEPA(
        levy=levy, sigreg=sigreg, gamma=config.gamma, lamb=config.lamb, kappa=config.kappa
    )


def _prior(settings: Config) -> LevyRegularizer | VideoRegularizer:
    config = settings.objective
    stencils = tuple(lattice.parse(text) for text in config.stencils)
    options: dict[str, Any] = {
        "quadrature": partial(_quadrature, config.quadrature, config.nodes),
        "calibrated": config.calibrated,
        "learnable": config.learnable,
        "cells": config.cells,
    }
    if settings.data.frames is None:
        return LevyRegularizer(laws.parse(config.law), stencils, **options)
    kinds: dict[str, TermConfig] = {kind: getattr(config, kind) for kind in KINDS}
    return VideoRegularizer(
        {kind: laws.parse(term.law or config.law) for kind, term in kinds.items()},
        stencils,
        config.pace,
        {kind: term.weight for kind, term in kinds.items()},
        **options,
    )


def laws_of(objective: LeJEPA, settings: Config) -> dict[str, tuple[Stencil, laws.Law]]:
    """Each stencil with the law of its increments, as far as an objective has learned it.

    Of an objective without the Lévy prior, what its settings would have asked.
    """
    levy = objective.levy
    if levy is None or isinstance(levy, TotalVariation):
        levy = _prior(settings)
    priors: Any = levy.priors.items() if isinstance(levy, VideoRegularizer) else [("", levy)]
    return {
        f"{kind} {text}".strip(): (term.stencil, prior.law)
        for kind, prior in priors
        for text, term in zip(
            settings.objective.stencils if kind in ("", "space") else [""], prior.terms, strict=True
        )
    }


def whole_tokens(valid: Tensor, field: Tensor) -> Tensor:
    """Which tokens show no frame that is repeated beyond a video's end.

    Args:
        valid: (count, B, T) bool, of a batch's frames.
        field: (count * B, t, h, w, C), its tokens, of T / t frames each.

    Returns:
        (count * B, t, h, w) bool.
    """
    whole = valid.flatten(0, 1).unflatten(1, (field.shape[1], -1)).all(2)
    return whole[:, :, None, None].expand(field.shape[:-1])


def schedule(step: int, warmup: int, steps: int, floor: float) -> float:
    """A factor of the learning rate: linear from .01 to 1, then half a cosine to `floor`.

    >>> [round(schedule(step, warmup=2, steps=6, floor=0.25), 3) for step in (0, 1, 2, 4, 6)]
    [0.01, 0.505, 1.0, 0.625, 0.25]
    """
    if step < warmup:
        return 0.01 + 0.99 * step / warmup
    done = min((step - warmup) / max(steps - warmup, 1), 1.0)
    return floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2


def _quadrature(name: str, nodes: int, law: laws.Law, volume: float) -> Quadrature:
    if name == "equispaced":
        return equispaced(law, nodes, volume)
    return gauss_laguerre(law, nodes)  # as the original: one range for cells of every volume
