"""LevyJepa: LeJEPA with a Lévy prior on the patch embeddings of an image or clip."""

from levyjepa._lazy import attach

__version__ = "0.2.0.dev0"

__getattr__, __dir__, __all__ = attach(__name__, __file__)
