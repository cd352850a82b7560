"""The bounds."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, fields

import pytest

from pagews import ConfigurationError, Limits


def test_every_bound_has_a_positive_default() -> None:
    assert all(getattr(Limits(), field.name) > 0 for field in fields(Limits))


@pytest.mark.parametrize("value", [0, -1, math.nan, "10", None, True])
def test_what_is_no_bound(value: object) -> None:
    with pytest.raises(ConfigurationError, match="heartbeat"):
        Limits(heartbeat=value)  # type: ignore[arg-type]  # the mistake that is tested


def test_a_bound_stays_what_it_is() -> None:
    with pytest.raises(FrozenInstanceError):
        Limits().retention = 1.0  # type: ignore[misc]  # the mistake that is tested
