"""Every setting as YAML, each beside what `schema.py` says of it."""

import ast
import inspect
import io
import tokenize
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

import yaml

from levyjepa.conf import schema
from levyjepa.conf.schema import Config


def explain(config: Config) -> str:
    """YAML of a configuration, the comments of `schema.py` behind its keys."""
    return "\n".join(_lines(config))


def _lines(settings: Any, indent: str = "") -> Iterator[str]:
    notes = _notes()[type(settings).__name__]
    for field in fields(settings):
        value = getattr(settings, field.name)
        note = f"  # {notes[field.name]}" if field.name in notes else ""
        if is_dataclass(value):
            note = note or f"  # {(type(value).__doc__ or '').splitlines()[0]}"
            yield f"{indent}{field.name}:{note}"
            yield from _lines(value, f"{indent}  ")
        elif isinstance(value, list) and value and is_dataclass(value[0]):
            yield f"{indent}{field.name}:{note}"
            for item in value:
                first, *rest = _lines(item, f"{indent}  ")
                yield f"{indent}- {first.strip()}"
                yield from rest
        else:
            plain = list(value) if isinstance(value, tuple) else value
            text = yaml.safe_dump(
                {field.name: plain}, allow_unicode=True, sort_keys=False, width=1000
            )
            first, *rest = text.splitlines()
            yield f"{indent}{first}{note}"
            yield from (f"{indent}{line}" for line in rest)


@cache
def _notes() -> dict[str, dict[str, str]]:
    """By class and field: the comment behind a field, or the lines of one above it."""
    source = inspect.getsource(schema)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}
    found: dict[str, dict[str, str]] = {}
    for part in ast.parse(source).body:
        if isinstance(part, ast.ClassDef):
            starts = {line.lineno for line in part.body}
            found[part.name] = {
                line.target.id: note
                for line in part.body
                if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
                if (note := comments.get(line.lineno) or _above(line, comments, starts))
            }
    return found


def _above(line: ast.stmt, comments: dict[int, str], starts: set[int]) -> str:
    """The comment on the lines above a field, up to another field."""
    first = line.lineno
    while first - 1 in comments and first - 1 not in starts:
        first -= 1
    return " ".join(comments[number] for number in range(first, line.lineno))
