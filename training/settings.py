"""Frozen dataclasses from TOML: every key must be a field, every value of the field's type.

TOML has no null, so a field that may be None is left out of the file; on the command line its value
is `none`.
"""

import dataclasses
import tomllib
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union

T = TypeVar("T")


class SettingsError(ValueError):
    """A file of settings, or an override, that cannot be read; says where and what would do."""


def from_table(kind: type[T], table: Mapping[str, Any], where: str) -> T:
    """A dataclass from a parsed TOML table.

    where: what to call the table in errors, such as `nano.toml`. Raises SettingsError for an unknown
    or missing key and for a value of the wrong type.
    """
    return _dataclass(kind, table, where, "")


def override(table: dict[str, Any], assignments: list[str]) -> dict[str, Any]:
    """The table with `a.b=value` applied; the value is TOML, a bare word is a string.

    Raises SettingsError for an assignment without `=` and for a path through something that is no
    table; unknown keys are found by `from_table`.
    """
    result = _copy(table)
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals:
            raise SettingsError(f"--set {assignment}: expected KEY=VALUE, such as cpt.lr=1e-3")
        *parents, last = path.strip().split(".")
        place = result
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise SettingsError(f"--set {assignment}: {parent} is a value, not a table")
        place[last] = _value(text.strip())
    return result


def as_table(value: Any) -> Any:
    """A dataclass as plain tables and lists, for JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: as_table(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, list | tuple):
        return [as_table(item) for item in value]
    if isinstance(value, dict):
        return {key: as_table(item) for key, item in value.items()}
    return value


def _copy(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(v) if isinstance(v, Mapping) else v for key, v in table.items()}


def _value(text: str) -> Any:
    if text == "none":
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text  # a bare word


def _dataclass(kind: type[T], table: Any, file: str, path: str) -> T:
    if not isinstance(table, Mapping):
        raise SettingsError(f"{file}: {path} must be a table, not {table!r}")
    assert dataclasses.is_dataclass(kind)
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}
    values = {}
    for key, value in table.items():
        name = f"{path}.{key}" if path else key
        if key not in fields:
            known = ", ".join(sorted(fields))
            raise SettingsError(f"{file}: unknown key {name}; known here: {known}")
        values[key] = _typed(hints[key], value, file, name)
    for key, field in fields.items():
        without = (dataclasses.MISSING, dataclasses.MISSING)
        if key not in values and (field.default, field.default_factory) == without:
            raise SettingsError(f"{file}: {f'{path}.{key}' if path else key} is missing")
    try:
        return kind(**values)
    except ValueError as error:
        if isinstance(error, SettingsError):
            raise
        raise SettingsError(f"{file}: {path or kind.__name__}: {error}") from error


def _typed(hint: Any, value: Any, file: str, name: str) -> Any:
    """`value` as the type of a field; an int is taken where a float is wanted."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _dataclass(hint, value, file, name)  # pyright: ignore[reportArgumentType]
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        (inner,) = (a for a in arguments if a is not type(None))
        return _typed(inner, value, file, name)
    if origin is Literal:
        if value in arguments:
            return value
        expected = " or ".join(repr(a) for a in arguments)
        raise SettingsError(f"{file}: {name} = {value!r}, expected {expected}")
    if origin is tuple and isinstance(value, list):
        if arguments[-1] is Ellipsis:
            return tuple(_typed(arguments[0], item, file, name) for item in value)
        if len(arguments) == len(value):
            return tuple(_typed(a, v, file, name) for a, v in zip(arguments, value, strict=True))
    if origin is dict and isinstance(value, Mapping):
        return {key: _typed(arguments[1], v, file, f"{name}.{key}") for key, v in value.items()}
    if hint is Any:
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and type(value) is hint:
        return value
    expected = getattr(hint, "__name__", str(hint)) if origin is None else str(hint)
    raise SettingsError(f"{file}: {name} = {value!r} is no {expected}")
