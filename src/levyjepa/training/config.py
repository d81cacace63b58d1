"""From words such as `data=cifar10 objective.gamma=0` to checked settings."""

import re
import types
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel

from levyjepa.registry import Registry
from levyjepa.settings import ConfigError, nearest
from levyjepa.training.settings import Config

PACKAGE = Path(__file__).parents[1]
GROUPS = {  # preset groups in the order in which they apply, and where their files are
    "model": PACKAGE / "presets" / "model",
    "views": PACKAGE / "presets" / "views",
    "objective": PACKAGE / "presets" / "objective",
    "data": PACKAGE / "data" / "sources",
    "experiment": PACKAGE / "presets" / "experiment",
}
DEFAULTS = {"model": "vit_s8", "views": "lejepa", "objective": "levy", "data": "mnist5k"}
FREE = "model.overrides."  # arguments of an encoder, whose names are its own


def compose(words: Sequence[str]) -> Config:
    """Compose presets and `KEY=VALUE` words into checked settings.

    Presets apply in the order model, views, objective, data, experiment; a preset's `use` chooses
    those of other groups. Words come last.

    Args:
        words: As on the command line: "data=cifar10", "objective.gamma=0".

    Raises:
        ConfigError: An unknown key or preset, a value of a wrong type or out of range.

    >>> compose(["data=cifar10", "objective.gamma=0"]).data.image_size
    32
    """
    chosen, values = _split(words)
    composed = _compose(chosen, values)
    return Config.parse(composed)


def sweep(words: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Part words into those of one value and those of several: `seed=0,1,2`.

    Returns:
        The words of one value, and the values of each other key.
    """
    single, several = [], {}
    for word in words:
        key, _, text = word.partition("=")
        values = _commas(text)
        if len(values) > 1:
            several[key] = values
        else:
            single.append(word)
    return single, several


def change_data(config: Config, words: Sequence[str]) -> Config:
    """Return the settings with other data, as `levyjepa evaluate RUN data=... ` asks.

    Raises:
        ConfigError: As `compose`; a word outside of `data`; images in place of clips.
    """
    if not words:
        return config
    chosen, values = _split(words)
    for key in [*chosen, *values]:
        if key.split(".")[0] != "data" and key not in ("seed", "run_dir"):
            raise ConfigError(f"`{key}` can't change here; only `data` settings can.")
    settings = config.as_dict()
    if "data" in chosen:
        settings["data"] = _compose(chosen, values)["data"]
    _set(settings, values)
    changed = Config.parse(settings)
    if changed.clips != config.clips:
        kinds = ("clips", "images") if config.clips else ("images", "clips")
        raise ConfigError(f"`data` must give {kinds[0]}, as in training, got {kinds[1]}.")
    return changed


def from_dict(settings: Mapping[str, Any]) -> Config:
    """Check nested settings, as `config.yaml` holds them; older ones keep their meaning."""
    settings = {key: dict(v) if isinstance(v, Mapping) else v for key, v in settings.items()}
    objective = settings.get("objective", {})
    if "pace" in objective:
        objective["time_step"] = objective.pop("pace")
    if objective and "scale" not in objective:
        objective["unbiased"] = False
    return Config.parse(settings)


def known_keys() -> list[str]:
    """Return every setting's dotted key."""
    return list(_keys())


def presets(group: str) -> dict[str, str]:
    """Return the presets of a group with their one-line descriptions."""
    files = {path.stem: _comment(path) for path in sorted(GROUPS[group].glob("*.yaml"))}
    registry = _registry(group)
    registered = {} if registry is None else registry.presets()
    return files | {name: entry.help for name, entry in registered.items()}


def short_keys(keys: Sequence[str]) -> dict[str, str]:
    """Return the fewest last parts of each dotted key that no other setting ends in.

    >>> short_keys(["objective.gamma", "objective.time.weight"])
    {'objective.gamma': 'gamma', 'objective.time.weight': 'time.weight'}
    """
    known = {tuple(key.split(".")) for key in (*_keys(), *keys)}

    def short(key: str) -> str:
        parts = tuple(key.split("."))
        others = [other for other in known if other != parts and len(other) <= len(parts)]
        ends = (parts[-n:] for n in range(1, len(parts) + 1))
        return ".".join(next(e for e in ends if not any(o[-len(e) :] == e for o in others)))

    return {key: short(key) for key in keys}


def _compose(chosen: Mapping[str, str], values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings of presets and values."""
    asked = (
        _preset("experiment", chosen["experiment"]).get("use", {}) if "experiment" in chosen else {}
    )
    data = {**DEFAULTS, **asked, **chosen}["data"]
    chosen = {**DEFAULTS, **_preset("data", data).get("use", {}), **asked, **chosen}
    settings: dict[str, Any] = {}
    for group in GROUPS:
        if group in chosen:
            preset = _preset(group, chosen[group])
            _merge(settings, {k: v for k, v in preset.items() if k not in ("use", "kind")})
    settings.setdefault("data", {}).setdefault("source", chosen["data"])
    if {"model.name", "model.weights"} & values.keys():  # what a preset says is another model's
        for key in ("name", "overrides", "patch_size"):
            settings.setdefault("model", {}).pop(key, None)
    if any(key.startswith("experiment.") for key in values) and "experiment" not in chosen:
        raise ConfigError("`experiment` settings need a preset, such as `experiment=demo`.")
    _set(settings, values)
    kind = "images" if settings["data"].get("frames") is None else "video"
    why = f"with data.frames={settings['data'].get('frames')} gives clips"
    why = why if kind == "video" else "gives images"
    for group in ("model", "views"):
        if (own := _preset(group, chosen[group]).get("kind", kind)) != kind:
            fits = [n for n in presets(group) if _preset(group, n).get("kind", kind) == kind]
            raise ConfigError(
                f"`{group}={chosen[group]}` is for {own}, and data={chosen['data']} {why}; "
                f"choose {group}={' or '.join(fits)}."
            )
    return settings


def _preset(group: str, name: str) -> dict[str, Any]:
    path = GROUPS[group] / f"{name}.yaml"
    registry = _registry(group)
    if registry is not None and name in (registered := registry.presets()):
        return dict(registered[name].preset)
    if Path(name).name == name and path.is_file():
        return _read(path)
    known = list(presets(group))
    near = nearest(name, known).replace("`", f"`{group}=", 1)
    raise ConfigError(f"Unknown preset `{group}={name}`{near or '.'} Presets: {', '.join(known)}.")


def _registry(group: str) -> Registry | None:
    """What people register that `GROUP=NAME` may choose."""
    if group != "data":
        return None
    from levyjepa.data.registry import SOURCES

    return SOURCES


def _split(words: Sequence[str]) -> tuple[dict[str, str], dict[str, Any]]:
    """Presets by group, and values by dotted key."""
    chosen, values = {}, {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            group = next((g for g in GROUPS if word in presets(g)), None)
            example = f"{group}={word}" if group else "objective.gamma=0"
            raise ConfigError(f"A setting must read KEY=VALUE, such as {example}; got {word!r}.")
        if key in GROUPS:
            chosen[key] = _plain(text)
            _preset(key, chosen[key])
        else:
            values[key] = _value(key, text)
    return chosen, values


def _value(key: str, text: str) -> Any:
    """A value, read as the setting's type asks."""
    if key.startswith(FREE):
        return _yaml(key, text)
    if re.fullmatch(r"views\.groups\.\d+\.\w+", key):
        kind = _keys().get(key.replace(key.split(".")[2], "0", 1))
        if kind is None:
            raise ConfigError(f"Unknown key `{key}`.")
        return _yaml(key, text)
    keys = _keys()
    if key not in keys:
        branch = [k for k in keys if k.startswith(f"{key}.")]
        if branch:
            raise ConfigError(f"`{key}` is a group of settings; set one of {', '.join(branch)}.")
        raise ConfigError(f"Unknown key `{key}`{nearest(key, list(keys)) or '.'}")
    kinds = keys[key]
    if len(_commas(text)) > 1 and not any(k in kinds for k in (str, list, tuple, dict)):
        raise ConfigError(
            f"`{key}` must be one value, got {text}; several are for `levyjepa experiment`."
        )
    if str in kinds:
        return None if text in ("null", "None") and types.NoneType in kinds else _plain(text)
    if list in kinds and key != "views.groups":
        return [_plain(item) for item in _commas(text.strip().removeprefix("[").removesuffix("]"))]
    return _yaml(key, text)


def _yaml(key: str, text: str) -> Any:
    spaced = re.sub(r"(?<=\w):(?=[^\s/\\])", ": ", text) if re.search(r"[{\[]", text) else text
    try:
        value = yaml.safe_load(spaced)
    except yaml.YAMLError as error:
        raise ConfigError(f"`{key}` must be a value as in YAML, got {text!r}.") from error
    return text if isinstance(value, (bytes,)) else value


def _plain(text: str) -> str:
    """Text without the quotes around it."""
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted else text


def _commas(text: str) -> list[str]:
    """Parts of a text between commas that no bracket or quote encloses.

    >>> _commas("line(2, axis=0), box(2)")
    ['line(2, axis=0)', 'box(2)']
    """
    parts, depth, quote, start = [], 0, "", 0
    for at, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"" and (at == start or text[at - 1] in "=[, "):
            quote = char
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif char == "," and depth == 0:
            parts.append(text[start:at].strip())
            start = at + 1
    return [*parts, text[start:].strip()]


@cache
def _keys() -> dict[str, set[type]]:
    """Every dotted key with the plain types that its setting takes."""
    return dict(_walk(Config))


def _walk(cls: type[BaseModel], stem: str = "") -> Any:
    for name, field in cls.model_fields.items():
        kinds = _types(field.annotation)
        inner = next((k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)), None)
        if name == "groups":
            yield f"{stem}groups", {list}
            from levyjepa.data.settings import ViewGroup

            yield from _walk(ViewGroup, f"{stem}groups.0.")
        elif inner is None:
            yield f"{stem}{name}", kinds
        else:
            yield from _walk(inner, f"{stem}{name}.")


def _types(annotation: Any) -> set[Any]:
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        return set().union(*map(_types, get_args(annotation)))
    if hasattr(annotation, "__metadata__"):
        return _types(annotation.__origin__)
    if origin is not None and origin not in (list, tuple, dict):  # Literal
        return {str}
    return {origin or annotation}


def _set(settings: dict[str, Any], values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        *stem, last = key.split(".")
        place: Any = settings
        for at, part in enumerate(stem):
            if isinstance(place, list):
                if int(part) >= len(place):
                    raise ConfigError(
                        f"`{'.'.join(stem[:at])}` has {len(place)} entries, got {key}."
                    )
                place = place[int(part)]
            else:
                place = place.setdefault(part, {})
        place[last] = value


def _merge(settings: dict[str, Any], more: Mapping[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, Mapping) and isinstance(settings.get(key), dict) and key != "sweep":
            _merge(settings[key], value)
        else:
            settings[key] = dict(value) if isinstance(value, Mapping) else value


@cache
def _text(path: Path) -> str:
    return path.read_text("utf-8")


def _read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(_text(path)) or {}


def _comment(path: Path) -> str:
    first = _text(path).split("\n", 1)[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""
