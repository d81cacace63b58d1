"""Reading the tokens of anybody's ViT by forward hooks: where they are, and on which grid."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from levyjepa import checks
from levyjepa.lattice import scatter_tokens, tokens_to_grid

CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
BLOCKS = ("blocks", "layer", "layers", "resblocks")  # lists of blocks, by the last part of a name
NORMS = ("norm", "layernorm", "layer_norm", "ln")
PREFIXES = ("cls_token", "class_token", "class_embedding", "dist_token", "distillation_token")
REGISTERS = ("reg_token", "register_tokens")
WIDTHS = ("embed_dim", "hidden_size", "hidden_dim", "num_features")


@dataclass(frozen=True)
class Seen:
    """The tokens of one forward pass.

    Args:
        tokens: What the layer gave, (B, prefix + M, C) if it is right.
        grid: Number of patches along each axis, None if unknown.
        order: (B, n) places on the grid. The first M are those of the tokens if patches were
            dropped. None if unknown.
    """

    tokens: Any
    grid: tuple[int, ...] | None
    order: Tensor | None


class Tap:
    """What the hooks of one reader write down.

    The hooks are bound methods, so that a copy of the model has a tap of its own. A copy is closed
    until the copy of its reader opens it: a copied model without a reader keeps no tokens.

    Args:
        source: Layer and class of the model, for errors.
        prefix: Number of tokens in front of the patches.
        grid: Grid of all inputs, None to read it from the output of the patch embedding.
        latest: Whether to keep only the last forward pass, also one without gradients.
    """

    def __init__(
        self, source: str, prefix: int, grid: tuple[int, ...] | None, latest: bool = False
    ) -> None:
        self.source, self.prefix, self.fixed, self.latest = source, prefix, grid, latest
        self.open = True
        self.clear()

    def clear(self) -> None:
        """Forget all forward passes."""
        self.grid, self.order, self.without_grad = self.fixed, None, False
        self.chain: Any = None

    @property
    def seen(self) -> list[Seen]:
        """The forward passes, the first one first."""
        passes, link = [], self.chain
        while link is not None:
            *entry, link = link
            passes.append(Seen(*entry))
        return passes[::-1]

    def __getstate__(self) -> dict[str, Any]:
        copy = Tap(self.source, self.prefix, self.fixed, self.latest)
        copy.open = False
        return vars(copy)

    def on_patches(self, module: nn.Module, args: Any, output: Tensor) -> None:
        """Hook of the patch embedding, a convolution: its output has the size of the grid."""
        self.order = None
        if self.fixed is None:
            self.grid = tuple(output.shape[2:])

    def on_embeddings(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        """Hook of embeddings that may drop patches, as VideoMAE and ViTMAE do.

        Dropped patches are True in an argument, or last in a permutation that is returned.
        """
        for value in (*args, *kwargs.values()):
            if isinstance(value, Tensor) and value.dtype == torch.bool:
                self.order = value.flatten(1).byte().argsort(dim=1, stable=True)
        for value in output if isinstance(output, tuple) else ():
            if isinstance(value, Tensor) and value.dtype == torch.long:
                self.order = value.argsort(1)

    def before_drop(self, module: nn.Module, args: Any) -> Any:
        """Hook before a module that drops patches: write their places into two more channels.

        Two, because bfloat16 holds no integers above 256 exactly.
        """
        tokens, prefix = args[0], getattr(module, "num_prefix_tokens", 0)
        place = torch.arange(-prefix, tokens.shape[1] - prefix, device=tokens.device).clamp_min(0)
        digits = torch.stack([place // 256, place % 256], -1).to(tokens.dtype)
        return torch.cat([tokens, digits.expand(len(tokens), -1, -1)], -1), *args[1:]

    def after_drop(self, module: nn.Module, args: Any, output: Any) -> Any:
        """Hook after a module that drops patches: read the places that are left."""
        tokens = output[0] if isinstance(output, tuple) else output
        places = tokens.detach()[:, getattr(module, "num_prefix_tokens", 0) :, -2:].long()
        self.order = places[..., 0] * 256 + places[..., 1]
        return (tokens[..., :-2], *output[1:]) if isinstance(output, tuple) else tokens[..., :-2]

    def on_output(self, module: nn.Module, args: Any, output: Any) -> None:
        """Hook of the layer that gives the tokens."""
        if hasattr(output, "last_hidden_state"):
            output = output.last_hidden_state
        while isinstance(output, (tuple, list)) and output:
            output = output[0]
        self.record(output)

    def on_input(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        """Hook of the layer that takes the tokens."""
        self.record(args[0] if args else next(iter(kwargs.values()), None))

    def record(self, tokens: Any) -> None:
        """Write down the tokens, unless they come again, or have no gradient."""
        if not self.open or _recomputing():
            return
        # A chain, because a compiled model would be compiled again for each length of a list. The
        # inputs of a reentrant checkpoint have gradients, though they are disabled inside.
        if self.latest:
            self.chain = tokens, self.grid, self.order, None
        elif torch.is_grad_enabled() or getattr(tokens, "requires_grad", False):
            self.chain = tokens, self.grid, self.order, self.chain
        else:
            self.without_grad = True

    def place(self, seen: Seen, keep: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return a forward pass's field (B, *grid, C), and its mask if patches are missing.

        Args:
            seen: The forward pass.
            keep: (B, M) places of the tokens on the grid, as for `scatter_tokens`.
        """
        tokens, grid, prefix = self._checked(seen.tokens), seen.grid, self.prefix
        count = tokens.shape[1] - prefix
        if grid is None:
            if keep is not None:
                raise ValueError("`grid` must be given for a model without a patch embedding.")
            return tokens_to_grid(tokens, None, prefix), None
        total = math.prod(grid)
        if keep is None and count == total:
            return tokens_to_grid(tokens, grid, prefix), None
        if keep is None and seen.order is not None and 0 < count < total:
            keep = seen.order[:, :count]
        if keep is None:
            shape, left = " x ".join(map(str, grid)), tokens.shape[1] - total
            hint = "if the model drops patches, say by `keep` which ones are left"
            if left >= 0:
                hint = f"with prefix={left} they would fit"
            raise ValueError(
                f"`model` must give {prefix} prefix tokens and {total} patches, a {shape} grid, "
                f"got {tokens.shape[1]} tokens from {self.source}: {hint}."
            )
        return scatter_tokens(tokens, keep, grid, prefix)

    def _checked(self, tokens: Any) -> Tensor:
        """Return the tokens if they are (B, N, C), raise otherwise."""
        if not isinstance(tokens, Tensor) or not tokens.is_floating_point():
            raise TypeError(
                f"`layer` must give tokens (B, N, C), got {type(tokens).__name__} from "
                f"{self.source}."
            )
        if tokens.ndim == 3:
            return tokens
        shape, hint = tuple(tokens.shape), "."
        if tokens.ndim == 4:
            hint = (
                ". Features (B, C, H, W) of a convolutional network go to "
                "`LevyRegularizer(law)(features.movedim(1, -1))`, and (B, H, W, C) as they are."
            )
        raise ValueError(
            f"`layer` must give tokens (B, N, C), got shape {shape} from {self.source}{hint}"
        )


def _recomputing() -> bool:
    """Return whether a backward pass runs, in which checkpoints call the model again."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


@dataclass(frozen=True)
class Attached:
    """A tap on a model.

    Args:
        tap: What the hooks write down.
        handles: The handles that remove the hooks.
        axes: Number of axes of the grid.
        width: Number of channels of a token, None if unknown.
    """

    tap: Tap
    handles: list[RemovableHandle]
    axes: int
    width: int | None


def attach(
    model: nn.Module,
    layer: int | str | None,
    grid: Sequence[int] | None,
    prefix: int | None,
    latest: bool = False,
) -> Attached:
    """Find a model's tokens and hook a tap to them. The arguments are those of `PatchTokens`."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"`model` must be a module, got {model!r}.")
    if layer is not None and (isinstance(layer, bool) or not isinstance(layer, (int, str))):
        raise TypeError(f"`layer` must be an integer, a name or None, got {layer!r}.")
    sizes = None if grid is None else checks.sizes("grid", grid)
    if sizes is not None and (not sizes or min(sizes) < 1):
        raise ValueError(f"`grid` must be one positive size or more, got {sizes}.")
    for wrapper in ("_orig_mod", "module"):  # of torch.compile, of DistributedDataParallel
        model = inner if isinstance(inner := getattr(model, wrapper, None), nn.Module) else model
    patches, core = _patch_embedding(model)
    module, is_input = _layer(model, core, layer)
    prefix = _prefix(core) if prefix is None else checks.count("prefix", prefix, least=0)
    source = f"{'the last layer' if layer is None else f'layer {layer!r}'} of {_kind(model)}"
    tap = Tap(source, prefix, sizes, latest)
    handles = []
    if patches is not None:
        handles.append(patches.register_forward_hook(tap.on_patches))
    if isinstance(embeddings := getattr(core, "embeddings", None), nn.Module):
        handles.append(embeddings.register_forward_hook(tap.on_embeddings, with_kwargs=True))
    if getattr(dropout := getattr(core, "patch_drop", None), "prob", 0):
        handles.append(dropout.register_forward_pre_hook(tap.before_drop))  # pyright: ignore
        handles.append(dropout.register_forward_hook(tap.after_drop))  # pyright: ignore
    if is_input:
        handles.append(module.register_forward_pre_hook(tap.on_input, with_kwargs=True))
    else:
        handles.append(module.register_forward_hook(tap.on_output))
    axes = len(sizes) if sizes else 3 if isinstance(patches, nn.Conv3d) else 2
    width = next((found for found in map(_width, (core, model)) if found), None)
    return Attached(tap, handles, axes, width or getattr(patches, "out_channels", None))


def _kind(model: nn.Module) -> str:
    return type(model).__name__


def _patch_embedding(model: nn.Module) -> tuple[nn.Module | None, nn.Module]:
    """Return the patch embedding, and the smallest module that holds it and blocks: the ViT.

    The patch embedding is a convolution, the first one or, in a stem of several, the last.
    """
    for name, module in model.named_modules():
        if isinstance(module, CONVOLUTIONS):
            path = name.split(".")
            parents = [model.get_submodule(".".join(path[:n])) for n in range(len(path))]
            depth = max((n for n, parent in enumerate(parents) if _blocks(parent)[0]), default=0)
            stem = model.get_submodule(".".join(path[: depth + 1]))
            return [m for m in stem.modules() if isinstance(m, CONVOLUTIONS)][-1], parents[depth]
    return None, model


def _blocks(model: nn.Module) -> tuple[list[nn.Module], nn.Module]:
    """Return the blocks, in the first list of a known name, and the module that has this list."""
    for name, module in model.named_modules():
        parent, _, last = name.rpartition(".")
        listed = isinstance(module, (nn.ModuleList, nn.Sequential)) and len(module) > 0
        if listed and last in BLOCKS:
            return list(module.children()), model.get_submodule(parent)
    return [], model


def _layer(model: nn.Module, core: nn.Module, layer: int | str | None) -> tuple[nn.Module, bool]:
    """Return the module to hook, and whether the tokens are its input.

    The output of a block is read where the next module takes it. There it has a gradient even if
    blocks are checkpointed by the reentrant implementation.
    """
    if isinstance(layer, str):
        return _named(model, layer), False
    blocks, parent = _blocks(core)
    norm = _norm(core) or _norm(parent)
    if layer is None and norm is not None and blocks:
        return norm, False
    if layer is None and hasattr(getattr(core, "config", None), "hidden_size"):
        return core, False  # of transformers
    if not blocks:
        raise ValueError(
            f"`model` must have transformer blocks, in a list named {', '.join(BLOCKS)}, got "
            f"{_kind(model)}. Name the `layer` that gives its tokens (B, N, C). Features "
            "(B, C, H, W) of a convolutional network go to "
            "`LevyRegularizer(law)(features.movedim(1, -1))`."
        )
    depth = len(blocks)
    number = depth if layer is None else layer + depth + 1 if layer < 0 else layer
    if not 1 <= number <= depth:
        raise ValueError(f"`layer` must be from 1 to {depth} or from -{depth} to -1, got {layer}.")
    if number < depth:
        return blocks[number], True
    return (blocks[-1], False) if norm is None else (norm, True)


def _named(model: nn.Module, name: str) -> nn.Module:
    modules = dict(model.named_modules())
    if name in modules:
        return modules[name]
    tails = [known for known in modules if known.endswith(f".{name}")]
    near = [*tails, *get_close_matches(name, list(modules), n=5, cutoff=0.4)][:5]
    hint = f" Near it: {', '.join(near)}." if near else ""
    raise ValueError(
        f"`layer` must be the name of a submodule of {_kind(model)}, got {name!r}.{hint}"
    )


def _norm(module: nn.Module) -> nn.Module | None:
    """Return the final norm among the children of a module."""
    children: Iterator[Any] = (getattr(module, name, None) for name in NORMS)
    return next((child for child in children if isinstance(child, nn.Module)), None)


def _width(model: nn.Module) -> int | None:
    for owner in (model, getattr(model, "config", None)):
        for name in WIDTHS:
            if isinstance(value := getattr(owner, name, None), int):
                return value
    return None


def _prefix(core: nn.Module) -> int:
    """Return the number of tokens in front of the patches."""
    if isinstance(known := getattr(core, "num_prefix_tokens", None), int):
        return known
    count = 0
    for name, parameter in core.named_parameters():
        last = name.rpartition(".")[2]
        if last in PREFIXES:
            count += 1
        elif last in REGISTERS and parameter.ndim > 1:
            count += parameter.shape[-2]
    return count
