"""LevyJepa: LeJEPA with a Lévy prior on the patch embeddings of an image or clip."""

__version__ = "0.1.0"
