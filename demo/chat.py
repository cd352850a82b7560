"""A chat between tabs: one topic that a page may join once it has a name, and who is there."""

from collections import deque
from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct

import pagews

TOPIC = "chat"
REMEMBERED_LINES = 30

delegates = pagews.DelegateTableDef()


class Introduction(Struct):
    name: Annotated[str, Meta(min_length=1, max_length=24)]


class Line(Struct):
    text: Annotated[str, Meta(min_length=1, max_length=500)]


class Room:
    """The names that pages have chosen, by page id, and the last lines that were said."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.lines: deque[dict[str, str]] = deque(maxlen=REMEMBERED_LINES)

    def name_of(self, page: pagews.Page) -> str:
        try:
            return self.names[page.id]
        except KeyError:
            raise pagews.DelegateError("no-name", "Choose a name first.") from None


ROOM = web.AppKey("chat_room", Room)


async def may_join(page: pagews.Page, topic: str) -> bool:
    """The application's ``authorize``: whoever has a name may listen to the chat, and nobody to anything else."""
    return topic == TOPIC and page.id in page.app[ROOM].names


@delegates.on("chat_name")
async def choose_name(page: pagews.Page, data: Introduction) -> None:
    name = data.name.strip()
    if not name:
        raise pagews.DelegateError("no-name", "A name needs a letter or two.")
    if name.casefold() in (other.casefold() for other in await names_here(page.app)):
        raise pagews.DelegateError("name-taken", f"Somebody here is called {name} already.")
    page.app[ROOM].names[page.id] = name


@delegates.on("chat_arrive")
async def arrive(page: pagews.Page, data: None) -> list[dict[str, str]]:
    # Not before the page has joined: what is said in between would be in neither.
    await tell_who_is_there(page.app)
    return list(page.app[ROOM].lines)


@delegates.on("chat_say")
async def say(page: pagews.Page, data: Line) -> None:
    room = page.app[ROOM]
    line = {"name": room.name_of(page), "text": data.text}
    room.lines.append(line)
    await pagews.get_publisher(page.app).topic(TOPIC).push("chat_line", line)


@delegates.on("chat_leave")
async def leave(page: pagews.Page, data: None) -> None:
    await forget(page)


async def names_here(app: web.Application) -> list[str]:
    names = app[ROOM].names
    pages = await pagews.get_publisher(app).topic(TOPIC).pages()
    return sorted((names[page.id] for page in pages if page.id in names), key=str.casefold)


async def tell_who_is_there(app: web.Application) -> None:
    await pagews.get_publisher(app).topic(TOPIC).push("chat_people", await names_here(app))


async def came_or_went(page: pagews.Page) -> None:
    if page.id in page.app[ROOM].names:
        await tell_who_is_there(page.app)


async def forget(page: pagews.Page) -> None:
    if page.app[ROOM].names.pop(page.id, None) is not None:
        await tell_who_is_there(page.app)


def setup(app: web.Application) -> None:
    app[ROOM] = Room()
    app.on_startup.append(listen)


async def listen(app: web.Application) -> None:
    publisher = pagews.get_publisher(app)
    publisher.on_attach.append(came_or_went)
    publisher.on_detach.append(came_or_went)
    publisher.on_gone.append(forget)
