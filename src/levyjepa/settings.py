"""The base of all settings: typed, bounded and described where they are declared."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError


class ConfigError(ValueError):
    """A setting that is unknown or out of range; the message names its key."""


class Settings(BaseModel):
    """A group of settings. Unknown keys are errors; instances don't change.

    Declare a setting as `name: type = Field(default, ge=1, description="Pixels.")`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def parse(cls, values: Mapping[str, Any], stem: str = "") -> Self:
        """Build from nested dictionaries.

        Args:
            values: As a YAML file holds them.
            stem: What keys begin with in messages, such as "data.".

        Raises:
            ConfigError: An unknown key, a wrong type or a value out of range.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(_message(cls, error, stem)) from error

    def replace(self, **values: Any) -> Self:
        """Return a copy with other values, checked."""
        return self.parse({**self.as_dict(), **values})

    def as_dict(self) -> dict[str, Any]:
        """Return nested dictionaries and lists, as a YAML file holds them."""
        return self.model_dump(mode="json")


def flat(tree: Mapping[str, Any], stem: str = "") -> dict[str, Any]:
    """Return nested settings under dotted keys; branches are left out.

    >>> flat({"data": {"source": "mnist5k", "limit": None}, "seed": 0})
    {'data.source': 'mnist5k', 'data.limit': None, 'seed': 0}
    """
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            leaves |= flat(value, f"{stem}{key}.")
        else:
            leaves[f"{stem}{key}"] = value
    return leaves


def describe(settings: Settings) -> str:
    """Return YAML of all settings, each beside its description."""
    return "\n".join(_lines(settings))


def nearest(key: str, known: list[str]) -> str:
    """Return a hint that names the known key most like `key`, or an empty string."""
    tail = key.rsplit(".", 1)[-1]
    near = get_close_matches(key, known, n=1)
    near = near or [other for other in known if other.rsplit(".", 1)[-1] == tail]
    return f"; did you mean `{near[0]}`?" if near else ""


def _lines(settings: Settings, indent: str = "") -> Iterator[str]:
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        text = field.description or ""
        if isinstance(value, Settings):
            text = text or (type(value).__doc__ or "").split("\n")[0]
            yield f"{indent}{name}:{text and f'  # {text}'}"
            yield from _lines(value, f"{indent}  ")
        elif isinstance(value, (list, tuple)) and value and isinstance(value[0], Settings):
            yield f"{indent}{name}:{text and f'  # {text}'}"
            for item in value:
                first, *rest = _lines(item, f"{indent}  ")
                yield f"{indent}- {first.strip()}"
                yield from rest
        else:
            plain = settings.model_dump(mode="json", include={name})
            first, *rest = yaml.safe_dump(plain, allow_unicode=True, width=1000).splitlines()
            yield f"{indent}{first}{text and f'  # {text}'}"
            yield from (f"{indent}{line}" for line in rest)


_TYPES = {
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "list": "a list",
    "tuple": "a list",
    "dict": "a mapping",
}


def _message(cls: type[Settings], error: ValidationError, stem: str) -> str:
    """The first problem in this package's words."""
    problem = error.errors()[0]
    key = stem
    for part in problem["loc"]:
        key += (
            f"[{part}]"
            if isinstance(part, int)
            else f"{'' if not key or key.endswith('.') else '.'}{part}"
        )
    kind, got, limits = problem["type"], problem.get("input"), problem.get("ctx", {})
    if kind == "extra_forbidden":
        known = list(flat(cls.model_construct().as_dict(), stem))
        return f"Unknown key `{key}`{nearest(key, known) or '.'}"
    for name, words in (
        ("ge", "at least"),
        ("gt", "greater than"),
        ("le", "at most"),
        ("lt", "less than"),
    ):
        if name in limits:
            return f"`{key}` must be {words} {limits[name]:g}, got {got}."
    if kind == "literal_error":
        return f"`{key}` must be one of {limits['expected'].replace(' or ', ', ')}, got {got!r}."
    if kind == "value_error":
        text = str(limits["error"])
        return text if text.startswith("`") or not key else f"`{key}`: {text}"
    wanted = next((words for name, words in _TYPES.items() if kind.startswith(name)), None)
    if wanted:
        return f"`{key}` must be {wanted}, got {got!r}."
    return f"`{key}`: {problem['msg']}, got {got!r}."
