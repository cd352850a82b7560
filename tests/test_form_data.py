"""What the fields of a posted form are for a delegate."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal, TypedDict

import msgspec
import pytest
from msgspec import Meta, Struct

from pagews.form_data import form_data


class Order(Struct, forbid_unknown_fields=True):
    item: str
    count: Annotated[int, Meta(ge=1)]
    express: bool
    discount: float | None
    extras: list[str]


class Renamed(Struct, rename="camel"):
    gift_wrap: bool = True


@dataclass
class Point:
    x: int
    tags: set[str]


class Row(TypedDict):
    amount: Decimal
    kind: Literal["a", "b"]


ORDER: dict[str, list[object]] = {
    "item": ["tea"],
    "count": ["3"],
    "express": ["on"],
    "discount": ["0.5"],
    "extras": ["ribbon", "card"],
}


@pytest.mark.parametrize(
    ("fields", "wanted", "data"),
    [
        pytest.param(ORDER, Order, Order("tea", 3, True, 0.5, ["ribbon", "card"]), id="everything"),
        pytest.param(
            {"item": [""], "count": ["1"], "discount": [""], "extras": ["card"]},
            Order,
            Order("", 1, False, None, ["card"]),
            id="nothing ticked, empty number, one of a list",
        ),
        pytest.param(
            {"item": ["on"], "count": ["1"], "express": ["true"], "discount": ["2"]},
            Order,
            Order("on", 1, True, 2.0, []),
            id="nothing of a list, and 'on' is a string",
        ),
        pytest.param({}, Renamed, Renamed(False), id="a box that is not ticked is no default"),
        pytest.param({"giftWrap": ["on"]}, Renamed, Renamed(True), id="a name of its own"),
        pytest.param({"x": ["-1"], "tags": ["a", "b", "a"]}, Point, Point(-1, {"a", "b"}), id="dataclass"),
        pytest.param({"amount": ["1.50"], "kind": ["b"]}, Row, {"amount": Decimal("1.50"), "kind": "b"}, id="dict"),
        pytest.param({"a": ["1"], "b": ["x", "y"]}, Any, {"a": "1", "b": ["x", "y"]}, id="no annotation"),
        pytest.param({"a": ["1"]}, dict[str, int], {"a": 1}, id="a mapping"),
        pytest.param({"a": [None], "b": [None, None]}, Any, {"a": None, "b": [None, None]}, id="no file"),
    ],
)
def test_becomes_what_is_wanted(fields: dict[str, list[object]], wanted: Any, data: object) -> None:
    assert msgspec.convert(form_data(fields, wanted), wanted, strict=False) == data


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": ["0"]}, "`int` >= 1"),
        ({"count": ["many"]}, "Expected `int`, got `str`"),
        ({"count": ["1", "2"]}, "Expected `int`, got `array`"),
        ({"count": [""]}, "Expected `int`, got `str`"),
        ({"express": ["yes"]}, "Expected `bool`, got `str`"),
        ({"other": ["x"]}, "unknown field `other`"),
    ],
)
def test_what_does_not_fit(change: dict[str, list[object]], message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert(form_data(ORDER | change, Order), Order, strict=False)


def test_lists_of_files_have_no_empty_ones() -> None:
    class Album(Struct):
        photos: list[object]
        cover: object | None

    assert form_data({"photos": [None], "cover": [None]}, Album) == {"photos": [], "cover": None}
