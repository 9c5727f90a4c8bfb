"""Dataclasses that JSON files hold: read with the types that their fields say, whoever wrote the file.

A field that no Python name can be called after has its name in JSON as `field(metadata=in_json("class"))`.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import lru_cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from .errors import RequestError
from .files import last_line

# What fields and tensors were called in files that are still read.
FORMER_NAMES = {
    "centre": "center",
    "centre_momentum": "center_momentum",
    "labelled": "labeled",
    "neighbourhood": "neighborhood",
    "normalisation": "normalization",
    "normalise_patches": "normalize_patches",
}

_Record = TypeVar("_Record", bound="JsonRecord")


class JsonRecord:
    """Base class of dataclasses; fields are of plain types, tuples and dictionaries of these, and further records."""

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values, dictionaries and lists."""
        return {_name(field): _plain(getattr(self, field.name)) for field in fields(self)}  # type: ignore[arg-type]

    @classmethod
    def from_json(cls: type[_Record], content: Any) -> _Record:
        """The inverse of `to_json`. Fields that a later version added are passed over, those that an earlier one did
        not have get their default.

        Raises:
            ValueError: a field is missing, or of another type; in words.
        """
        found: _Record = _read(cls, content, cls.__name__)
        return found

    def changed(self: _Record, settings: Mapping[str, Any]) -> _Record:
        """The same with other values for some fields, as JSON gives them; of a record in a field a part will do.

        Raises:
            RequestError: there is no such field, or its value is of another kind or cannot be.
        """
        try:
            return self.from_json(_merged(self.to_json(), settings))
        except (TypeError, ValueError) as error:
            raise RequestError(f"a setting has a wrong value ({last_line(error)}); see docs/method.md") from error


def with_names_of_today(content: Any) -> Any:
    """JSON values of any version, with the keys of all objects in them as this version writes them."""
    if isinstance(content, Mapping):
        return {FORMER_NAMES.get(name, name): with_names_of_today(entry) for name, entry in content.items()}
    return [with_names_of_today(entry) for entry in content] if isinstance(content, list) else content


def in_json(name: str) -> Mapping[str, str]:
    """The metadata of a field that is called otherwise in JSON."""
    return {"json": name}


def _name(field: Field[Any]) -> str:
    return str(field.metadata.get("json", field.name))


def _plain(value: Any) -> Any:
    if isinstance(value, JsonRecord):
        return value.to_json()
    if isinstance(value, Mapping):
        return {name: _plain(entry) for name, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, tuple | list) else value


def _merged(content: Mapping[str, Any], settings: Any) -> dict[str, Any]:
    changed = dict(content)
    for name, value in dict(settings).items():
        if name not in content:
            raise RequestError(f"there is no setting '{name}'; choose one of {', '.join(content)}")
        changed[name] = _merged(content[name], value) if isinstance(content[name], dict) else value
    return changed


@lru_cache(None)
def _types(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _read(kind: Any, content: Any, name: str) -> Any:
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return None if content is None else _read(parts[0], content, name)  # X | None
    if origin is tuple:
        if not isinstance(content, list | tuple):
            raise ValueError(f"`{name}` is no list")
        kinds = parts[:1] * len(content) if parts[-1] is ... else parts
        if len(kinds) != len(content):
            raise ValueError(f"`{name}` has {len(content)} entries instead of {len(kinds)}")
        return tuple(_read(part, entry, name) for part, entry in zip(kinds, content, strict=True))
    if origin is dict:
        if not isinstance(content, Mapping):
            raise ValueError(f"`{name}` is no object")
        return {str(key): _read(parts[1], entry, key) for key, entry in content.items()}
    if isinstance(kind, type) and is_dataclass(kind):
        if not isinstance(content, Mapping):
            raise ValueError(f"`{name}` is no object")
        content = {FORMER_NAMES.get(key, key): entry for key, entry in content.items()}
        found = {}
        for field in fields(kind):
            if (key := _name(field)) in content:
                found[field.name] = _read(_types(kind)[field.name], content[key], key)
            elif field.default is MISSING and field.default_factory is MISSING:
                raise ValueError(f"`{key}` is missing")
        return kind(**found)
    if kind is float and type(content) is int:
        return float(content)
    if type(content) is not kind:
        raise ValueError(f"`{name}` is {content!r} and no {kind.__name__}")
    return content
