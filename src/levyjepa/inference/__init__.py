"""Where the jumps are."""

from levyjepa.inference.jumps import jump_probability

__all__ = ["jump_probability"]
