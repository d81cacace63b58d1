"""From what was typed to a command, and from an error to one line."""

import argparse
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from levyjepa.cli.command import Command, say
from levyjepa.cli.diagnose import DIAGNOSE
from levyjepa.cli.embed import EMBED
from levyjepa.cli.evaluate import EVALUATE
from levyjepa.cli.events import EVENTS
from levyjepa.cli.experiment import EXPERIMENT
from levyjepa.cli.export import EXPORT
from levyjepa.cli.jumps import JUMPS
from levyjepa.cli.report import REPORT
from levyjepa.cli.train import TRAIN

COMMANDS: dict[str, Command] = {
    "train": TRAIN,
    "experiment": EXPERIMENT,
    "evaluate": EVALUATE,
    "embed": EMBED,
    "jumps": JUMPS,
    "diagnose": DIAGNOSE,
    "events": EVENTS,
    "report": REPORT,
    "export": EXPORT,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status.

    0 is for success, 1 for an experiment with failed cells, 2 for an error, 130 for Ctrl-C.
    """
    parser = _parser()
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given:
        parser.print_help()
        return 0
    if hint := _no_command(given):
        parser.error(hint)
    options, unknown = parser.parse_known_args(given)
    if unknown:
        parser.error(_unrecognised(unknown))
    options.given = given
    options.debug = options.debug or bool(os.environ.get("LEVYJEPA_DEBUG"))
    logging.basicConfig(format="%(message)s")
    logging.getLogger("levyjepa").setLevel(logging.DEBUG if options.debug else logging.INFO)
    try:
        return COMMANDS[options.command].run(options)
    except KeyboardInterrupt as interruption:
        text = str(interruption) or "Interrupted."
        say(f"{text}\nTo go on: {_again(options, interruption)}")
        return 130
    except Exception as error:
        if options.debug:
            raise
        plain = isinstance(error, (ValueError, TypeError, OSError, RuntimeError))
        kind = "" if plain else f"{type(error).__name__}: "
        say(f"levyjepa {options.command}: {kind}{' '.join(str(error).split())}")
        return 2


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show where an error came from")
    parser = argparse.ArgumentParser(
        prog="levyjepa",
        description="LeJEPA with a Lévy prior on the patch embeddings of an image.",
        epilog="Settings are Hydra overrides, as objective.gamma=0 data=cifar10 data.path=FOLDER; "
        f"`levyjepa train --settings` lists them all. Presets: {_presets()}.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        made = commands.add_parser(
            name,
            help=command.text,
            description=command.text,
            epilog=f"Example: {command.example}",
            parents=[common],
        )
        command.arguments(made)
    return parser


def _presets() -> str:
    groups: dict[str, list[str]] = {}
    for path in sorted((Path(__file__).parents[1] / "conf").glob("*/*.yaml")):
        groups.setdefault(path.parent.name, []).append(path.stem)
    return "; ".join(f"{group}={'|'.join(names)}" for group, names in groups.items())


def _no_command(given: list[str]) -> str:
    """What to write where the first word is no command; nothing where it is one."""
    first = given[0]
    if first in COMMANDS or first in ("-h", "--help"):
        return ""
    if first.startswith("-") or "=" in first:
        return f"a command comes first, as in `{shlex.join(['levyjepa', 'train', *given])}`"
    near = get_close_matches(first, COMMANDS, n=1)
    hint = f"; did you mean `levyjepa {near[0]}`?" if near else "."
    return f"there is no command `{first}`{hint} There are: {', '.join(COMMANDS)}."


def _unrecognised(words: list[str]) -> str:
    """What to write instead of an option that is a setting."""
    from levyjepa.conf.compose import known_keys

    text = f"unrecognized arguments: {' '.join(words)}"
    name, _, value = words[0].lstrip("-").replace("-", "_").partition("=")
    keys = [key for key in known_keys() if name in (key, key.rsplit(".", 1)[-1])]
    return f"{text}; a setting has no dashes: {keys[0]}={value or 'VALUE'}" if keys else text


def _again(options: argparse.Namespace, interruption: KeyboardInterrupt) -> str:
    overrides = list(getattr(options, "overrides", []))
    run_dir: Any = getattr(interruption, "run_dir", None)
    if options.command == "train" and run_dir:
        overrides = [o for o in overrides if not o.startswith("run_dir=")] + [f"run_dir={run_dir}"]
        return shlex.join(["levyjepa", options.command, *overrides])
    return shlex.join(["levyjepa", *options.given])
