"""What frozen features are worth. A task is one function from a `Context` to scores."""

from levyjepa._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
