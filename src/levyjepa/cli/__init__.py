"""The command line: one command, one page; heavy imports wait until a command needs them."""

from levyjepa.cli.door import main

__all__ = ["main"]
