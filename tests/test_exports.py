"""What `import pagews` offers: the list is kept here by hand, so that it changes on purpose only."""

from __future__ import annotations

import inspect
import types

import pytest

import pagews

PUBLIC = frozenset(
    {
        # an application
        *("setup", "open_page", "script_tag", "form_tag", "Upload", "add_delegates", "get_publisher", "drain"),
        *("login", "logout", "rotate_session", "Limits", "DelegateTableDef", "requires_user"),
        # pushing
        *("Publisher", "Page", "Target", "PageTarget", "IdentityTarget", "Receipt", "Ack", "Statistics"),
        # a handler of one's own
        *("websocket", "websocket_start", "WebSocketHandler", "PageHandler", "Context", "Socket", "Push"),
        *("Text", "Binary", "Close"),
        # brokers
        *("Broker", "MemoryBroker"),
        # errors
        *("PagewsError", "ConfigurationError", "BrokerUnavailable", "EncodingError", "MessageTooLarge"),
        *("NotAuthorized", "AskTimeout", "PageGone", "RemoteError", "DelegateError", "ProtocolError"),
        "LimitExceeded",
    }
)


def test_all_is_the_public_list() -> None:
    assert set(pagews.__all__) == PUBLIC


def test_all_is_sorted_and_names_nothing_twice() -> None:
    assert list(pagews.__all__) == sorted(set(pagews.__all__))


def test_nothing_else_is_lying_about() -> None:
    found = {
        name
        for name, value in vars(pagews).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType) and name != "annotations"
    }
    assert found == PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_name_is_documented(name: str) -> None:
    value = getattr(pagews, name)
    doc = inspect.cleandoc(vars(value).get("__doc__") or "") if isinstance(value, type) else inspect.getdoc(value)
    assert doc, f"pagews.{name} has no docstring"
    # What dataclass and NamedTuple write when nobody else does.
    assert not doc.startswith(f"{name}("), f"pagews.{name} has no docstring of its own"


def test_every_public_method_is_documented() -> None:
    classes = [value for name in PUBLIC if isinstance(value := getattr(pagews, name), type)]
    assert classes
    undocumented = [
        f"{value.__name__}.{attribute}"
        for value in classes
        for attribute, member in vars(value).items()
        if not attribute.startswith("_")
        and isinstance(member, types.FunctionType | property | classmethod | staticmethod)
        and not inspect.getdoc(getattr(value, attribute))
    ]
    assert undocumented == []
