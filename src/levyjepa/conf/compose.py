"""Overrides and presets to a checked configuration."""

import ast
import re
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from levyjepa.conf.checks import ConfigError, check, check_presets
from levyjepa.conf.schema import Config, ExperimentConfig

FOLDER = Path(__file__).parent
GROUPS = ("data", "views", "model", "objective", "experiment")
FREE = "model.overrides."  # further arguments of timm's ViT, under names of its own
WANTED = {"Integer": "an integer", "Float": "a number"}


def compose(overrides: list[str]) -> Config:
    """Compose presets and overrides into a checked configuration.

    Args:
        overrides: As on the command line: "data=cifar10", "objective.gamma=0".

    Raises:
        ConfigError: An unknown key or preset, a value of a wrong type or out of range.
    """
    parsed = parse(overrides)
    composed, chosen = _composed(parsed)
    check_presets(chosen, composed.data.source, composed.data.frames)
    return settled(composed, parsed)


def _composed(parsed: list[Override]) -> tuple[DictConfig, dict[str, str]]:
    """What Hydra composes, and the presets chosen, which may not go together."""
    for override in parsed:
        if override.is_sweep_override():
            raise ConfigError(
                f"`{override.key_or_group}` must be one value, "
                f"got {override.get_value_string()}; a grid is for `levyjepa experiment`."
            )
    with initialize_config_dir(str(FOLDER), job_name="levyjepa", version_base="1.3"):
        try:
            composed = hydra_compose(
                "config", [o.input_line or "" for o in parsed], return_hydra_config=True
            )
        except (HydraException, OmegaConfBaseException) as error:
            raise _explained(error) from error
    with open_dict(composed):
        chosen = dict(composed.pop("hydra").runtime.choices)
    return composed, chosen


def settled(composed: DictConfig, parsed: list[Override]) -> Config:
    """What Hydra composed, checked; `model.name` given by hand drops what a preset said of another.

    That is, the patch size and the further arguments that were not given by hand.
    """
    settings: Any = OmegaConf.to_container(composed, resolve=True)
    given = {override.key_or_group: override for override in parsed}
    if "model.name" in given:
        model, whole = settings["model"], given.get("model.overrides")
        kept = {key.removeprefix(FREE) for key in given if key.startswith(FREE)}
        kept |= set(whole.value() or ()) if whole else set()  # pyright: ignore[reportArgumentType]
        model["overrides"] = {
            key: value for key, value in model["overrides"].items() if key in kept
        }
        if "model.patch_size" not in given:
            model["patch_size"] = None
    return from_dict(settings)


def from_dict(settings: Any) -> Config:
    """Nested dictionaries, as config.yaml holds them, to a checked configuration."""
    try:
        merged = OmegaConf.merge(OmegaConf.structured(Config), settings)
        config = cast(Config, OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        raise _explained(error) from error
    check(config)
    return config


def amend(config: Config, overrides: list[str]) -> Config:
    """Change where a configuration's images come from, and nothing else, by overrides.

    Raises:
        ConfigError: As `compose`, or an override of anything but `data`.
    """
    if not overrides:
        return config
    parsed = parse(overrides)
    for override in parsed:
        if override.key_or_group.split(".")[0] != "data":
            raise ConfigError(
                f"`{override.key_or_group}` is the checkpoint's own; only `data` may change here."
            )
    settings: Any = to_dict(config)
    if any(line.startswith("data=") for line in overrides):
        settings["data"] = to_dict(settled(_composed(parsed)[0], parsed))["data"]
    else:
        merged: Any = OmegaConf.merge(settings, OmegaConf.from_dotlist(overrides))
        settings = OmegaConf.to_container(merged)
    frames = settings["data"]["frames"]
    if (frames is None) != (config.data.frames is None):
        kinds = ("clips", "images") if frames is None else ("images", "clips")
        raise ConfigError(f"`data` must be {kinds[0]}, as the checkpoint's own, got {kinds[1]}.")
    return from_dict(settings)


def to_dict(config: Config) -> dict[str, Any]:
    """A configuration to nested dictionaries and lists."""
    return cast(dict[str, Any], OmegaConf.to_container(OmegaConf.structured(config)))


def flat(tree: dict[str, Any], stem: str = "") -> dict[str, Any]:
    """Nested settings to one dictionary with dotted keys, branches included."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found[f"{stem}{key}"] = value
        if isinstance(value, dict):
            found |= flat(value, f"{stem}{key}.")
    return found


def parse(overrides: list[str]) -> list[Override]:
    """Parse overrides; raise ConfigError where one names no key and no preset."""
    ConfigStore.instance().store("schema", Config)
    for word in (line for line in overrides if "=" not in line):
        if groups := [group for group in GROUPS if word in _presets(group)]:
            raise ConfigError(f"An override must read `key=value`, as {groups[0]}={word}.")
    lines = [f"++{line}" if line.startswith(FREE) else _quoted(line) for line in overrides]
    try:
        parsed = OverridesParser.create().parse_overrides(lines)
    except HydraException as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"An override must read `key=value`: {reason}.") from error
    chosen = {override.key_or_group for override in parsed}
    for override in parsed:
        key, value = override.key_or_group, override.value()
        if key in GROUPS and not override.is_delete():
            _among(f"preset `{key}=", str(value), _presets(key))
        elif not key.startswith(("hydra.", "hydra/", "views.groups.", FREE)):
            _among("key `", key, known_keys())
        if key.startswith("experiment.") and "experiment" not in chosen:
            raise ConfigError(f"`{key}` needs a preset, such as `experiment=demo`.")
    return parsed


def _quoted(line: str) -> str:
    """Laws and stencils may be written as they are: Hydra takes a bare call for its own."""
    key, _, value = line.partition("=")
    if key.startswith("objective.") and key.endswith("law") and not value.startswith(("'", '"')):
        return f"{key}=" + ",".join(f'"{law}"' for law in _several(value))
    if key == "objective.stencils" and not re.search("['\"]", value):
        return f"{key}=" + re.sub(r"(\w+\([^()]*\))", r'"\1"', value)
    return line


def _several(text: str) -> list[str]:
    """The laws of a text, between which commas stand."""
    try:
        body = ast.parse(text, mode="eval").body
    except SyntaxError:
        return [text]
    laws = body.elts if isinstance(body, ast.Tuple) else [body]
    return [ast.get_source_segment(text, law) or text for law in laws]


def known_keys() -> list[str]:
    """Every key of a configuration, with dots, branches included."""
    return list(flat(to_dict(Config(experiment=ExperimentConfig()))))


def _presets(group: str) -> list[str]:
    return sorted(path.stem for path in (FOLDER / group).glob("*.yaml"))


def _among(what: str, name: str, known: list[str]) -> None:
    if name in known:
        return
    near = get_close_matches(name, known, n=1) or [
        key for key in known if key.rsplit(".", 1)[-1] == name.rsplit(".", 1)[-1]
    ]
    listed = f" There are: {', '.join(known)}." if what.startswith("preset") else ""
    stem = what.split("`")[1]
    hint = f"; did you mean `{stem}{near[0]}`?" if near else "."
    raise ConfigError(f"Unknown {what}{name}`{hint}{listed}")


def _explained(error: Exception) -> ConfigError:
    """Hydra's and OmegaConf's errors in this package's words."""
    cause: BaseException = error
    while isinstance(cause, HydraException) and cause.__cause__ is not None:
        cause = cause.__cause__
    text = str(cause)
    if found := re.search(r"hydra/launcher/(\w+)", text):
        package = f"hydra-{found[1].split('_')[0]}-launcher"
        return ConfigError(f"`hydra/launcher={found[1]}` needs `pip install {package}`.")
    key = getattr(cause, "full_key", None) or ""
    if key and (found := re.search(r"Value '(.*)' of type '\w+' .* to (\w+)", text)):
        value, kind = found.groups()
        return ConfigError(f"`{key}` must be {WANTED.get(kind, kind)}, got {value!r}.")
    if key and (found := re.search(r"Value '(.*)' is not a valid bool", text)):
        return ConfigError(f"`{key}` must be true or false, got {found[1]!r}.")
    if found := re.search(r"Key '(.*)' not in '(\w+)'", text):
        return ConfigError(f"Unknown key `{key or found[1]}` in {found[2]}.")
    line = " ".join(text.split("\n    full_key")[0].split())
    return ConfigError(f"`{key}`: {line}" if key else line)
