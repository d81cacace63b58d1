"""The Lévy prior as a term of anybody's loss: hooks, a light projection and the loss."""

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, linear
from torch.nn.parallel import DistributedDataParallel
from torch.utils.hooks import RemovableHandle

from levyjepa import checks
from levyjepa.objectives.hooks import attach
from levyjepa.objectives.levy import LevyRegularizer
from levyjepa.objectives.video import VideoRegularizer


class LevyTerm(nn.Module):
    """The Lévy prior on the patch tokens of a model, as one term of its loss.

    Hooks collect the tokens of every forward pass with gradients. A call of the term returns the
    mean loss of all images since the last call, and forgets them. Passes with gradients disabled do
    not count, and neither do passes that activation checkpointing repeats.

    Tokens are normalized to mean 0 and variance 1 over their channels. A linear map then projects
    them to `dim` channels. Its rows start orthonormal, and it is trained with the model. The law is
    in units of the projected tokens' own deviation (`scale`), so the map cannot meet it by a
    change of scale. All of this is computed in float32 at least, also under autocast.

    The term does not hold the model. Assign it to the model, `model.levy = term`, before the model
    is wrapped, sharded or passed to an optimizer. Its projection is then part of the model for
    optimizers, checkpoints, devices, `DistributedDataParallel` and `fully_shard`, and a copy of the
    model has a term of its own. Without the assignment a copy has none. A `nn.Sequential` would
    call the term; assign it to the module around it. Build the term before the first call of a
    compiled model.

    Args:
        model: A ViT, as for `PatchTokens`.
        law: Law of the increments, as for the regularizer.
        dim: Number of channels of the projection. The normalized tokens themselves if None.
        layer: Layer of the tokens, as for `PatchTokens`.
        width: Number of channels of a token. Read from the model if None.
        grid: Number of patches along each axis, as for `PatchTokens`.
        prefix: Number of tokens in front of the patches, as for `PatchTokens`.
        scale: Units of the law, as for `LevyRegularizer`.
        options: Other arguments of `LevyRegularizer`, or of `VideoRegularizer` for a model of
            clips, whose grid has three axes.

    Raises:
        TypeError, ValueError: An argument is invalid, or the model has no tokens there.

    >>> from levyjepa.laws import Brownian, CompoundPoisson, LaplaceJumps
    >>> class Tiny(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.patch_embed = nn.Conv2d(3, 64, kernel_size=4, stride=4)
    ...         self.blocks = nn.Sequential(nn.Linear(64, 64), nn.GELU())
    ...         self.norm = nn.LayerNorm(64)
    ...     def forward(self, images):
    ...         tokens = self.patch_embed(images).flatten(2).transpose(1, 2)
    ...         return self.norm(self.blocks(tokens)).mean(1)
    >>> model = Tiny()
    >>> model.levy = LevyTerm(model, Brownian(0.25) + CompoundPoisson(0.3, LaplaceJumps(1.0)))
    >>> embedding = model(torch.randn(2, 3, 32, 32))
    >>> loss = embedding.square().mean() + model.levy()
    """

    def __init__(
        self,
        model: nn.Module,
        law: Any,
        *,
        dim: int | None = 32,
        layer: int | str | None = None,
        width: int | None = None,
        grid: Sequence[int] | None = None,
        prefix: int | None = None,
        scale: str = "tokens",
        **options: Any,
    ) -> None:
        super().__init__()
        if isinstance(model, DistributedDataParallel):
            raise TypeError(
                "`model` must be the model itself, got DistributedDataParallel: build the term and "
                "assign it to the model before wrapping, so that its projection is synchronized."
            )
        found = attach(model, layer, grid, prefix)
        self.tap, self.handles = found.tap, found.handles
        weakref.finalize(self, _remove, self.handles)
        try:
            self.projection = _projection(model, found.width if width is None else width, dim)
            kind = VideoRegularizer if found.axes == 3 else LevyRegularizer
            self.regularizer = kind(law, scale=scale, **options)
            if (parameter := next(model.parameters(), None)) is not None:
                self.to(parameter.device)
        except Exception:
            self.remove()
            raise

    def forward(
        self,
        keep: Tensor | Sequence[Tensor] | None = None,
        mask: Tensor | Sequence[Tensor] | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return the mean loss of all images since the last call.

        Args:
            keep: (B, M) places of the patches that a masked encoder kept, as for `scatter_tokens`,
                or a sequence of one for each forward pass. Not needed for models that
                `PatchTokens` can read.
            mask: (B, *grid) bool, False where a token is missing or padding, or one for each pass.
            generator: Random number generator of the regularizer.

        Returns:
            A scalar, in float32 or float64.

        Raises:
            RuntimeError: The model has not run with gradients since the last call.
            ValueError: The tokens do not fit the grid.
        """
        seen, ignored = self.tap.seen, self.tap.without_grad
        self.tap.clear()
        if not seen:
            reason = (
                "passes without gradients, as under `torch.no_grad` or a reentrant checkpoint "
                "around the layer"
                * ignored
                or "none. A compiled model must run for the first time after the term was built"
            )
            raise RuntimeError(
                f"`model` must run {self.tap.source} with gradients before each call of the term, "
                f"got {reason}."
            )
        keeps, masks = _each("keep", keep, len(seen)), _each("mask", mask, len(seen))
        groups: dict[Any, list[tuple[Tensor, Tensor | None]]] = {}
        for entry, kept, present in zip(seen, keeps, masks, strict=True):
            field, found = self.tap.place(entry, kept)
            if present is not None:
                present = checks.mask("mask", present, field)
            present = found if present is None else present if found is None else present & found
            key = field.shape[1:], field.dtype, field.device, present is None
            groups.setdefault(key, []).append((self._projected(field), present))
        images, total = sum(len(entry.tokens) for entry in seen), 0
        for group in groups.values():
            field = torch.cat([field for field, _ in group])
            found = [present for _, present in group if present is not None]
            option = {"mask": torch.cat(found)} if found else {}
            loss = self.regularizer(field, generator=generator, **option)
            total = total + loss * (len(field) / images)
        return total  # pyright: ignore

    def clear(self) -> None:
        """Forget the tokens of all forward passes since the last call."""
        self.tap.clear()

    def remove(self) -> None:
        """Detach the term from the model. It collects no more tokens."""
        self.tap.clear()
        _remove(self.handles)

    def _projected(self, field: Tensor) -> Tensor:
        """Return the normalized and projected tokens, in float32 at least."""
        with torch.autocast(field.device.type, enabled=False):
            field = field.to(torch.promote_types(field.dtype, torch.float32))
            field = layer_norm(field, field.shape[-1:])
            if self.projection is None:
                return field
            weight = self.projection.weight
            if field.shape[-1] != weight.shape[1]:
                raise ValueError(
                    f"`width` must be {field.shape[-1]}, the number of channels of a token from "
                    f"{self.tap.source}, got {weight.shape[1]}."
                )
            return linear(field, weight.to(field.dtype))

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.tap.open = True
        weakref.finalize(self, _remove, self.handles)


def _projection(model: nn.Module, width: int | None, dim: int | None) -> nn.Linear | None:
    """Return the projection. It has no bias, which no increment would feel."""
    if dim is None:
        return None
    checks.count("dim", dim)
    if width is None:
        raise ValueError(
            f"`width` must be given, the number of channels of a token: {type(model).__name__} "
            "does not say it by an attribute such as embed_dim."
        )
    projection = nn.Linear(checks.count("width", width), dim, bias=False)
    nn.init.orthogonal_(projection.weight)
    return projection


def _remove(handles: Sequence[RemovableHandle]) -> None:
    for handle in handles:
        handle.remove()


def _each(
    name: str, value: Tensor | Sequence[Tensor] | None, count: int
) -> Sequence[Tensor | None]:
    """Return one value for each forward pass."""
    values = [value] if isinstance(value, Tensor) else value
    if values is None:
        return [None] * count
    if not isinstance(values, Sequence) or len(values) != count:
        got = len(values) if isinstance(values, Sequence) else repr(value)
        raise ValueError(f"`{name}` must be one for each of {count} forward passes, got {got}.")
    return values
