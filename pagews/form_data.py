"""What the fields of a form are for a delegate: HTML sends strings, and nothing at all for a box that is not ticked.

The rules make of a form that the browser posts what the client's script would have sent of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from msgspec import inspect

#: The values of each name, in order: strings, and files, None for one that was not chosen.
Fields = Mapping[str, Sequence[object]]

_OBJECTS: Final = (inspect.StructType, inspect.DataclassType, inspect.TypedDictType)
_NUMBERS: Final = (inspect.IntType, inspect.FloatType, inspect.DecimalType)

#: What a box without a `value` attribute sends.
_TICKED: Final = "on"


def form_data(fields: Fields, wanted: Any) -> dict[str, object]:
    """The data that `wanted`, an annotation, is to be made of.

    - a list, or another collection, gets all values, none if there are none
    - a bool gets whether there is a value
    - a number that may be None gets None for an empty string
    - anything else gets its value, or a list when there are several
    """
    kinds = _kinds(wanted)
    data = {name: _values(values, kinds.get(name, ())) for name, values in fields.items()}
    for name, kind in kinds.items():
        if name not in data and _collection(kind) is not None:
            data[name] = []
        elif name not in data and _has(kind, inspect.BoolType):
            data[name] = False
    return data


def _kinds(wanted: Any) -> dict[str, tuple[inspect.Type, ...]]:
    """The types that each field of an annotation may have."""
    found = _members(inspect.type_info(wanted))
    return {
        field.encode_name: _members(field.type)
        for kind in found
        if len(found) == 1 and isinstance(kind, _OBJECTS)
        for field in kind.fields
    }


def _members(kind: inspect.Type) -> tuple[inspect.Type, ...]:
    if isinstance(kind, inspect.Metadata):
        return _members(kind.type)
    if isinstance(kind, inspect.UnionType):
        return tuple(member for one in kind.types for member in _members(one))
    return (kind,)


def _has(kind: Iterable[inspect.Type], *types: type[inspect.Type]) -> bool:
    return any(isinstance(member, types) for member in kind)


def _collection(kind: Iterable[inspect.Type]) -> inspect.CollectionType | None:
    return next((member for member in kind if isinstance(member, inspect.CollectionType)), None)


def _values(values: Sequence[object], kind: tuple[inspect.Type, ...]) -> object:
    collection = _collection(kind)
    if collection is not None:
        items = _members(collection.item_type)
        return [_value(value, items) for value in values if value is not None]
    found = [_value(value, kind) for value in values]
    return found if len(found) > 1 else found[0]


def _value(value: object, kind: tuple[inspect.Type, ...]) -> object:
    if _has(kind, inspect.StrType):
        return value
    if value == "" and _has(kind, inspect.NoneType) and _has(kind, *_NUMBERS):
        return None
    return True if value == _TICKED and _has(kind, inspect.BoolType) else value
