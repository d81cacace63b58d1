"""One run, from settings to a folder; and a grid of runs."""

from levyjepa._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
