"""Sources of images and videos, and views of them."""

from levyjepa._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
