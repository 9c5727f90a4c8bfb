"""Dataclasses that JSON files hold: read with the types that their fields say, whoever wrote the file."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from functools import lru_cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

_Record = TypeVar("_Record", bound="JsonRecord")


class JsonRecord:
    """Base class of dataclasses; fields are of plain types, tuples and dictionaries of these, and further records."""

    def to_json(self) -> dict[str, Any]:
        """The fields as plain values, dictionaries and lists."""
        return asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_json(cls: type[_Record], content: Any) -> _Record:
        """The inverse of `to_json`. Fields that a later version added are passed over, those that an earlier one did
        not have get their default.

        Raises:
            ValueError: a field is missing, or of another type; in words.
        """
        found: _Record = _read(cls, content, cls.__name__)
        return found


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
    if isinstance(kind, type) and is_dataclass(kind):
        if not isinstance(content, Mapping):
            raise ValueError(f"`{name}` is no object")
        found = {}
        for field in fields(kind):
            if field.name in content:
                found[field.name] = _read(_types(kind)[field.name], content[field.name], field.name)
            elif field.default is MISSING:
                raise ValueError(f"`{field.name}` is missing")
        return kind(**found)
    if kind is float and type(content) is int:
        return float(content)
    if type(content) is not kind:
        raise ValueError(f"`{name}` is {content!r} and no {kind.__name__}")
    return content
