"""One training step: views to projections and fields, to the loss, to the optimizer."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.nn import functional as F
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics.classification import MulticlassAccuracy

from levyjepa.data.loader import TestBatch
from levyjepa.data.views import Batch, Photometric, generator_of, normalize, seed_of
from levyjepa.lattice import Stencil
from levyjepa.laws import Law
from levyjepa.models.encoder import build_encoder, check_encoder
from levyjepa.models.network import Network
from levyjepa.objectives import LevyRegularizer
from levyjepa.training.objective import build_objective, laws_of, valid_tokens
from levyjepa.training.run_folder import RunFolder
from levyjepa.training.settings import Config

LOG_EVERY = 10  # steps
VIEWS, LOSS, NETWORK = range(3)  # streams of random numbers


class Diverged(RuntimeError):
    """A loss term or the weights stopped being finite."""


class LevyJEPA(LightningModule):
    """The network with its objective, views and online probe.

    Random numbers of a step are a function of (seed, step), and of the rank where ranks must
    differ, so a resumed run needs no generator's state.

    Args:
        config: All settings.
        classes: Names of the classes; empty without labels, and then there is no probe.
        mean, std: Of the source's pixels in [0, 1], for each channel.
        encoder: A module to train in place of the one that `config.model` names.
    """

    def __init__(
        self,
        config: Config,
        classes: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
        encoder: Any = None,
    ) -> None:
        super().__init__()
        pixels = {"mean": list(map(float, mean)), "std": list(map(float, std))}
        settings = config.model_copy(update={"run_dir": None}).as_dict()
        self.save_hyperparameters(
            {"config": settings, "classes": list(classes), **pixels}, logger=False
        )
        self.config = config
        self.has_prior = config.objective.gamma > 0
        if encoder is None:
            encoder = build_encoder(config.model, config.data.image_size, config.data.frames)
        check_encoder(encoder, config.data.image_size, config.data.frames)
        self.network = Network(encoder, config.model, len(classes), self.has_prior)
        self.objective = build_objective(config)
        self.photometric = Photometric(config.views, mean, std)
        self.accuracy = (
            MulticlassAccuracy(len(classes), average="micro", validate_args=False)
            if classes
            else None
        )
        self._not_finite: Tensor | None = None
        check_grids(config, encoder, self.laws)
        if config.trainer.compile:
            self.network.compile()

    @property
    def laws(self) -> dict[str, tuple[Stencil, Law]]:
        """The stencils with the laws of their increments, as far as laws are learned."""
        return laws_of(self.objective, self.config)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Return the loss of a batch of views, LeJEPA's and the probe's."""
        seed, step, rank = self.config.seed, self.global_step, self.global_rank
        torch.manual_seed(seed_of(seed, step, rank, NETWORK))  # stochastic depth has no generator
        generator = generator_of(seed, step, rank, VIEWS)
        embeddings, projections, fields = [], [], []
        for group in batch.views:
            views = self.photometric(group, generator)
            output = self.network(views.flatten(0, 1), field=self.has_prior)
            embeddings.append(output.embedding)
            projections.append(output.projection.float().unflatten(0, group.shape[:2]))
            fields.append(output.field)
        with torch.autocast(self.device.type, enabled=False):
            loss = self.objective(
                torch.cat(projections),
                [field.float() for field in fields] if self.has_prior else None,
                num_global=self.config.views.groups[0].count,
                generator=generator_of(seed, step, LOSS, device=self.device),
                mask=list(map(valid_tokens, batch.valid, fields))
                if self.has_prior and batch.valid
                else None,
            )
            terms = {"inv": loss.invariance, "sigreg": loss.sigreg}
            if self.has_prior:
                terms["levy"] = loss.levy
                terms |= {f"levy_{kind}": term for kind, term in (loss.kinds or {}).items()}
            total = loss.total
            if self.network.probe is not None:
                embedding = torch.cat(embeddings).detach().float()
                labels = batch.labels.repeat(len(embedding) // len(batch.labels))
                terms["probe_loss"] = F.cross_entropy(self.network.probe(embedding), labels)
                total = total + terms["probe_loss"]
        self._check_finite(terms)
        optimizer: Any = self.optimizers()
        logged = {"lejepa_loss": loss.total, **terms, "lr": optimizer.param_groups[0]["lr"]}
        for name, value in logged.items():
            self.log(f"train/{name}", value, prog_bar=name != "lr", batch_size=len(batch.labels))
        return total

    def validation_step(self, batch: TestBatch, index: int) -> None:
        """Count which of a batch of test images the online probe gets right."""
        if self.accuracy is None or self.network.probe is None:
            return
        images = normalize(batch.images, self.hparams["mean"], self.hparams["std"])
        embedding = self.network.encoder(images).embedding.float()
        self.accuracy(self.network.probe(embedding), batch.labels)
        self.log("test/acc", self.accuracy, prog_bar=True, batch_size=len(batch.labels))

    def configure_optimizers(self) -> Any:
        """AdamW for the network, a learned law and the probe; the schedule counts steps.

        There is no weight decay on law parameters.
        """
        config, trainer = self.config.optimizer, self.trainer
        batch = self.config.data.batch_size * trainer.world_size
        scale = math.sqrt(batch / 256)
        probe = list(self.network.probe.parameters()) if self.network.probe is not None else []
        of_probe = {id(parameter) for parameter in probe}
        rest = [p for p in self.network.parameters() if p.requires_grad and id(p) not in of_probe]
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
            raise Diverged(self._reason("The weights are", self.global_step))

    def _check_finite(self, terms: dict[str, Tensor]) -> None:
        """Raise Diverged if a term is not finite; on a GPU, look only as often as is logged."""
        values = torch.stack([term.detach() for term in terms.values()])
        step = torch.where(values.isfinite(), math.inf, float(self.global_step))
        first = self._not_finite
        self._not_finite = step if first is None else torch.minimum(first, step)
        logs = self.global_step % LOG_EVERY == 0 or self.trainer.is_last_batch
        if logs:
            for term in self.objective.modules():
                if isinstance(term, LevyRegularizer):
                    term.check()
        if logs or self.device.type == "cpu":
            step, term = self._not_finite.min(0)
            if step.isfinite():
                name = f"`train/{list(terms)[int(term)]}` is"
                raise Diverged(self._reason(name, int(step)))

    def _reason(self, what: str, step: int) -> str:
        last = RunFolder(self.trainer.default_root_dir).last_checkpoint
        left = (
            f"the last good checkpoint is {last}."
            if last.is_file()
            else "there is no checkpoint yet."
        )
        return f"{what} not finite at step {step}; {left}"


def check_grids(config: Config, encoder: Any, laws: dict[str, tuple[Stencil, Law]]) -> None:
    """Check that every image size is whole patches and, with a prior, holds the stencils.

    Raises:
        ValueError: The message names the setting.
    """
    sizes = {"data.image_size": config.data.image_size}
    sizes |= {
        f"views.groups[{i}].size": g.size for i, g in enumerate(config.views.groups) if g.size
    }
    patch = tuple(encoder.patch_size)[-2:]
    least = [max(stencil.extent[-2:]) + 1 for stencil, _ in laws.values()]
    need = max(least) if config.objective.gamma > 0 else 1
    for key, size in sizes.items():
        if size % patch[0] or size % patch[1]:
            raise ValueError(
                f"`{key}` must be a multiple of the patch size {patch[0]}, got {size}."
            )
        if size // max(patch) < need:
            raise ValueError(
                f"`{key}` must give a grid of at least {need} x {need} patches for the stencils, "
                f"got {size // patch[0]} x {size // patch[1]}."
            )


def schedule(step: int, warmup: int, steps: int, floor: float) -> float:
    """Return a factor of the learning rate: linear from .01 to 1, then half a cosine to `floor`.

    >>> [round(schedule(step, warmup=2, steps=6, floor=0.25), 3) for step in (0, 1, 2, 4, 6)]
    [0.01, 0.505, 1.0, 0.625, 0.25]
    """
    if step < warmup:
        return 0.01 + 0.99 * step / warmup
    share = min((step - warmup) / max(steps - warmup, 1), 1.0)
    return floor + (1 - floor) * (1 + math.cos(math.pi * share)) / 2
