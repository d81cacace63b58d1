"""The patch tokens of anybody's ViT, as a field."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from levyjepa.objectives.hooks import attach


class PatchTokens(nn.Module):
    """A model that also gives its patch tokens on their grid.

    The output stays the model's own. After a call, `.field` holds the tokens of the patches. Their
    grid is read from the model at every call, so images may have any size that the model takes.

    Models are ViTs with a patch embedding and a list of blocks: those of timm, transformers (ViT,
    DINOv2, DINOv3, ViTMAE, and VideoMAE and V-JEPA 2 for clips), torchvision and lightly, and
    modules of the same kind. For others, name the layer and give the grid.

    If the model drops patches, `.field` is 0 where a patch is missing, and `.mask` is False there.
    The patches that are left are read from timm's `patch_drop_rate` and from VideoMAE and ViTMAE of
    transformers. Other models need `keep` at every call.

    Args:
        model: The model, which becomes the submodule `model`.
        layer: The layer of the tokens: the last one after the model's final norm if None, the
            output of a block, from 1 to the number of blocks or negative from the end, or that of a
            submodule by its name.
        grid: Number of patches along each axis. Read from the patch embedding, if None. For a
            model without one it is a square.
        prefix: Number of tokens in front of the patches, such as class and register tokens. Read
            from the model if None.

    Raises:
        TypeError, ValueError: An argument is invalid, or the model has no tokens there.

    >>> import torch
    >>> class Tiny(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.patch_embed = nn.Conv2d(3, 8, kernel_size=4, stride=4)
    ...         self.blocks = nn.Sequential(nn.Linear(8, 8), nn.GELU())
    ...         self.norm = nn.LayerNorm(8)
    ...     def forward(self, images):
    ...         tokens = self.patch_embed(images).flatten(2).transpose(1, 2)
    ...         return self.norm(self.blocks(tokens)).mean(1)
    >>> wrapped = PatchTokens(Tiny())
    >>> wrapped(torch.randn(2, 3, 16, 24)).shape, wrapped.field.shape
    (torch.Size([2, 8]), torch.Size([2, 4, 6, 8]))
    """

    def __init__(
        self,
        model: nn.Module,
        layer: int | str | None = None,
        grid: Sequence[int] | None = None,
        prefix: int | None = None,
    ) -> None:
        super().__init__()
        found = attach(model, layer, grid, prefix, latest=True)
        self.model, self.tap = model, found.tap
        self._field: Tensor | None = None
        self._mask: Tensor | None = None

    @property
    def field(self) -> Tensor:
        """(B, *grid, C), the tokens of the last call."""
        if self._field is None:
            raise RuntimeError("`field` must be read after a call of the model, got no call.")
        return self._field

    @property
    def mask(self) -> Tensor | None:
        """(B, *grid) bool, False where a patch is missing. None if the model drops none."""
        return self._mask

    def read(self, keep: Tensor | None = None) -> Tensor:
        """Set `.field` and `.mask` after a call of another method of the model; return the field.

        Args:
            keep: (B, M) places of the patches that are left, as for `scatter_tokens`.
        """
        if not self.tap.seen:
            raise RuntimeError(
                f"`model` must run {self.tap.source} before its tokens are read, got no call."
            )
        self._field, self._mask = self.tap.place(self.tap.seen[-1], keep)
        return self._field

    def forward(self, *args: Any, keep: Tensor | None = None, **kwargs: Any) -> Any:
        """Return the output of the model for these arguments.

        Args:
            args: Arguments of the model.
            keep: (B, M) places of the patches that are left, as for `scatter_tokens`. Not passed
                to the model.
            kwargs: Arguments of the model by name.
        """
        self.tap.clear()
        output = self.model(*args, **kwargs)
        self.read(keep)
        self.tap.clear()
        return output

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_field": None, "_mask": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.tap.open = True
