"""The Lévy prior on anybody's LightningModule, by a callback."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from levyjepa import checks
from levyjepa.objectives import LevyTerm


class LevyCallback(Callback):
    """Add the Lévy prior to the training loss of a LightningModule.

    The term becomes the submodule `levy` of the backbone, so optimizers over its parameters train
    the projection and checkpoints hold it. The loss is that which `training_step` returns or, with
    manual optimization, the first one of a step that is passed to `manual_backward`. The unweighted
    term is logged as "levy".

    Args:
        law: Law of the increments.
        gamma: Weight of the term.
        module_name: Name of the submodule whose tokens are meant, a ViT as for `PatchTokens`.
        options: Other arguments of `LevyTerm`.

    >>> from levyjepa.laws import Brownian
    >>> trainer = Trainer(
    ...     accelerator="cpu", logger=False, callbacks=[LevyCallback(Brownian(0.5), gamma=0.1)]
    ... )
    """

    def __init__(
        self, law: Any, gamma: float = 1.0, module_name: str = "backbone", **options: Any
    ) -> None:
        self.law, self.module_name, self.options = law, module_name, options
        self.gamma = checks.not_negative("gamma", gamma)
        self.term: LevyTerm | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Build the term, before optimizers are made and the module is wrapped."""
        if stage != "fit" or self.term is not None:
            return
        modules = dict(pl_module.named_modules())
        if not self.module_name or self.module_name not in modules:
            names = ", ".join(name for name, _ in pl_module.named_children())
            raise ValueError(
                f"`module_name` must be the name of a submodule, such as {names}, "
                f"got {self.module_name!r}."
            )
        backbone = modules[self.module_name]
        self.term = LevyTerm(backbone, self.law, **self.options)
        # A Sequential would call the term as its last layer.
        owner = pl_module if isinstance(backbone, nn.Sequential) else backbone
        owner.add_module("levy", self.term)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Wrap the method that gives the loss."""
        term = self._term()
        groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        trained = {id(parameter) for group in groups for parameter in group["params"]}
        if any(id(parameter) not in trained for parameter in term.parameters()):
            raise ValueError(
                f"`configure_optimizers` must pass all parameters of {self.module_name!r} to an "
                "optimizer, got none with its submodule `levy`, the projection of the Lévy prior."
            )
        if pl_module.automatic_optimization:
            _wrap(pl_module, "training_step", self._after_step(pl_module))
        else:
            _wrap(pl_module, "manual_backward", self._before_backward(pl_module))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the module its own methods back."""
        for name in ("training_step", "manual_backward"):
            vars(pl_module).pop(name, None)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Forget forward passes outside of training steps."""
        self._term().clear()

    def _term(self) -> LevyTerm:
        if self.term is None:
            raise RuntimeError("`setup` must run before the callback is used, got no call.")
        return self.term

    def _add(self, pl_module: LightningModule, loss: Tensor) -> Tensor:
        value = self._term()()
        pl_module.log("levy", value.detach(), prog_bar=True)
        return loss + self.gamma * value

    def _after_step(self, pl_module: LightningModule) -> Callable:
        def change(step: Callable, *args: Any, **kwargs: Any) -> Any:
            output = step(*args, **kwargs)
            if isinstance(output, dict):
                return output | {"loss": self._add(pl_module, output["loss"])}
            return output if output is None else self._add(pl_module, output)

        return change

    def _before_backward(self, pl_module: LightningModule) -> Callable:
        def change(backward: Callable, loss: Tensor, *args: Any, **kwargs: Any) -> None:
            if self._term().tap.seen:
                loss = self._add(pl_module, loss)
            backward(loss, *args, **kwargs)

        return change


def _wrap(module: LightningModule, name: str, change: Callable) -> None:
    """Replace a method by `change`, which is called with the method and its arguments."""
    method = getattr(module, name)

    @wraps(method)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return change(method, *args, **kwargs)

    setattr(module, name, wrapped)
