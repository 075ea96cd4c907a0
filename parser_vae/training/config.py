"""Settings: one typed value, read once from a TOML file, ``--set`` and flags, and written back beside the model.

The models themselves live where they are used; each is a ``Settings`` whose sections are ``Settings`` again, and whose
field descriptions are the help texts. Values are checked strictly (``"3"`` is not a number, ``3.0`` is not a count);
every failure is one ``ConfigError`` line that names the place, the key and what was expected there.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import tomli_w
from pydantic import BaseModel, ConfigDict, ValidationError

from parser_vae.errors import ConfigError

COMMAND_LINE = "the command line"
_EXPECTED = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "a text",
    "path_type": "a path",
    "list_type": "a list",
    "tuple_type": "a list",
    "model_type": "a section with keys",
}


class Settings(BaseModel):
    """The base of every settings section: immutable, and closed to keys it does not know.

    TOML has no null, so a field that may be None must have None as its default.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


Model = TypeVar("Model", bound=BaseModel)


def load_settings(
    model: type[Model],
    toml: Path | None = None,
    overrides: Sequence[str] = (),
    flags: Mapping[str, object] | None = None,
) -> Model:
    """Return the validated settings: defaults, then the file, then ``--set`` overrides, then flags.

    Args:
        model: The settings class.
        toml: A TOML file, or None for defaults only.
        overrides: ``section.key=value`` texts; the value is read as TOML, and as a plain string where it is not TOML.
        flags: Dotted key to value; None means that the flag was not given.

    Raises:
        ConfigError: The file cannot be read, a key is unknown or missing, or a value is not what its key takes.
    """
    values: dict[str, Any] = {}
    sources: dict[tuple[str, ...], str] = {}
    if toml is not None:
        _merge(values, sources, read_toml(toml), str(toml))
    for override in overrides:
        key, value = parse_override(override)
        _merge(values, sources, _nested(key, value), f"--set {override}")
    for key, value in (flags or {}).items():
        if value is not None:
            _merge(values, sources, _nested(key, value), COMMAND_LINE)
    return _validated(model, values, sources, str(toml) if toml is not None else COMMAND_LINE)


def settings_from(model: type[Model], values: Mapping[str, object], where: str) -> Model:
    """Return the validated settings of values by dotted key, given by ``where``, which messages name.

    Raises:
        ConfigError: A key is unknown or missing, or a value is not what its key takes.
    """
    merged: dict[str, Any] = {}
    sources: dict[tuple[str, ...], str] = {}
    for key, value in values.items():
        _merge(merged, sources, _nested(key, value), where)
    return _validated(model, merged, sources, where)


def _validated(
    model: type[Model], values: Mapping[str, Any], sources: Mapping[tuple[str, ...], str], place: str
) -> Model:
    try:
        # Through JSON, because pydantic's strict JSON mode takes a string for a path but not for a number.
        return model.model_validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as error:
        raise ConfigError(_explain(model, values, sources, error, place)) from None


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file; ``ConfigError`` where it is missing or not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the settings ({error.strerror}); check --config") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None


def parse_override(text: str) -> tuple[str, Any]:
    """Return the dotted key and the value of one ``section.key=value``; a value that is not TOML is a plain string."""
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not all(key.split(".")):
        raise ConfigError(f"--set {text}: expected section.key=value, for example --set training.seed=3")
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value


def dump_settings(model: BaseModel) -> str:
    """Return the settings as TOML that ``load_settings`` reads back to an equal value; None is left out."""
    return tomli_w.dumps(model.model_dump(mode="json", exclude_none=True))


def require_same_settings(recorded: BaseModel, current: BaseModel, folder: Path) -> None:
    """Raise ``ConfigError`` naming the first setting in which a resumed run would differ from the recorded one."""
    before, now = (dict(leaves(settings.model_dump(mode="json"))) for settings in (recorded, current))
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key):
            was, becomes = shown(before.get(key)), shown(now.get(key))
            raise ConfigError(
                f"--resume: {key} is {was} in {folder / 'config.toml'} but {becomes} now; "
                "resume with the recorded settings (leave the flag out), or start anew with --overwrite"
            )


def known_keys(model: type[BaseModel]) -> list[str]:
    """Return every dotted key of a settings class, sections before their keys, in the order of declaration."""
    keys = []
    for name, field in model.model_fields.items():
        keys.append(name)
        for section in _sections(field.annotation):
            keys += [f"{name}.{key}" for key in known_keys(section)]
    return list(dict.fromkeys(keys))


def _required_keys(model: type[BaseModel]) -> list[str]:
    """Return the dotted keys that have no default."""
    keys = []
    for name, field in model.model_fields.items():
        below = [f"{name}.{key}" for section in _sections(field.annotation) for key in _required_keys(section)]
        keys += (below or [name]) if field.is_required() else []
    return keys


def _sections(annotation: object) -> Iterator[type[BaseModel]]:
    """Yield the settings classes an annotation allows: itself, or the members of a union or of a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, types.UnionType, Annotated, list):
        for member in get_args(annotation):
            yield from _sections(member)


def _nested(key: str, value: object) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    assert isinstance(value, dict)
    return value


def _merge(
    into: dict[str, Any],
    sources: dict[tuple[str, ...], str],
    values: Mapping[str, Any],
    source: str,
    above: tuple[str, ...] = (),
) -> None:
    """Lay ``values`` over ``into``, table by table, and note for each key where it came from."""
    for key, value in values.items():
        path = (*above, key)
        sources[path] = source
        if isinstance(value, Mapping):
            below = into.get(key)
            if not isinstance(below, dict):
                below = into[key] = {}
            _merge(below, sources, value, source, path)
        else:
            into[key] = value


def leaves(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted key and the value of everything in nested tables that is no table."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _explain(
    model: type[BaseModel],
    values: Mapping[str, Any],
    sources: Mapping[tuple[str, ...], str],
    error: ValidationError,
    place: str,
) -> str:
    """Return one line on the failure that is most likely the cause: a misspelt key before a missing one."""
    failures = sorted(error.errors(include_url=False), key=lambda failure: failure["type"] != "extra_forbidden")
    failure = failures[0]
    # The location also names the member of a union; only what the user wrote, or has still to write, is of use.
    path, below = [], values
    for part in failure["loc"]:
        known = isinstance(below, Mapping) and part in below
        if known or part == failure["loc"][-1]:
            path.append(str(part))
        below = below[part] if known and isinstance(part, str) else below
    key = ".".join(path)
    source = next((sources[tuple(path[:n])] for n in range(len(path), 0, -1) if tuple(path[:n]) in sources), None)
    where = source or place
    kind = failure["type"]
    if kind == "extra_forbidden":
        what = f"unknown key {key}; {nearest_key(key, known_keys(model))}"
    elif kind == "missing":
        needed = [other for other in _required_keys(model) if f"{other}.".startswith(f"{key}.")] or [key]
        what = f"{', '.join(needed)} missing; give the flag, --set {needed[0]}=..., or the key in a --config file"
    elif kind == "value_error":
        what = ": ".join(part for part in (key, failure["msg"].removeprefix("Value error, ")) if part)
    else:
        expected = _EXPECTED.get(kind) or re.sub(r"^Input should be ", "", failure["msg"])
        quote = "; put it in quotes" if kind == "string_type" and isinstance(failure["input"], int | float) else ""
        what = f"{key}: expected {expected}, not {shown(failure['input'])}{quote}"
    more = len(failures) - 1
    return f"{where}: {what}" + (f" (and {more} more)" if more else "")


def nearest_key(key: str, known: Sequence[str]) -> str:
    """Return a hint for an unknown key: the nearest known one, by its whole name or its last part, or its siblings."""
    section, _, name = key.rpartition(".")
    siblings = {other.rpartition(".")[2]: other for other in known if other.rpartition(".")[0] == section}
    candidates = [siblings[near] for near in difflib.get_close_matches(name, siblings, n=1)]
    candidates += [other for other in known if other.rpartition(".")[2] == name]
    candidates += difflib.get_close_matches(key, known, n=1, cutoff=0.8)
    if candidates:
        return f"did you mean {candidates[0]}?"
    place = f"in {section}" if section and siblings else "at the top level"
    return f"known {place}: {', '.join(siblings.values() or [other for other in known if '.' not in other])}"


def shown(value: object) -> str:
    """Return a value as it would be written in TOML, or ``unset``."""
    return "unset" if value is None else json.dumps(value, ensure_ascii=False, default=str)
