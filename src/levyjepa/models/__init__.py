"""Encoders behind one protocol, and the heads that training adds."""

from levyjepa._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
