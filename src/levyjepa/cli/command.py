"""What a command is, and what commands share."""

import logging
import sys
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Command:
    """What `--help` says of a command, the arguments it takes and what it does."""

    text: str
    example: str
    arguments: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], int]


def add_overrides(parser: ArgumentParser) -> None:
    """Take settings behind the other arguments."""
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="settings to change, Hydra's way"
    )


def add_checkpoint(parser: ArgumentParser) -> None:
    """Take a checkpoint first."""
    parser.add_argument(
        "checkpoint", type=Path, metavar="CHECKPOINT", help="a run folder, or a checkpoint's file"
    )


def out(text: str) -> None:
    """Print a result."""
    sys.stdout.write(f"{text}\n")


def say(text: str) -> None:
    """Print what is no result."""
    sys.stderr.write(f"{text}\n")


def quieten(options: Namespace) -> None:
    """Lightning sets its level when it is imported; its hints are no news here."""
    if not options.debug:
        warnings.simplefilter("ignore")
        for name in ("lightning.pytorch", "lightning.fabric"):
            logging.getLogger(name).setLevel(logging.ERROR)


def device(config: Any) -> str:
    """Where networks compute, by `trainer.accelerator`."""
    import torch

    gpu = config.trainer.accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return "cuda" if gpu else "cpu"
