"""Whether a model's patch tokens follow a Lévy law, layer by layer and stencil by stencil."""

from levyjepa._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
