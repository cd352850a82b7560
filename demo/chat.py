"""A chat between tabs: one topic that a page may join once it has a name, and who is there.

Names and lines are kept with the pages that have them, so it does not matter which worker a page is attached to.
"""

import asyncio
import time
from typing import Annotated, Any

from aiohttp import web
from msgspec import Meta, Struct

import pagews

TOPIC = "chat"
NAME, LINES = "chat_name", "chat_lines"  # variables of a page
REMEMBERED_LINES = 30

delegates = pagews.DelegateTableDef()


class Introduction(Struct):
    name: Annotated[str, Meta(min_length=1, max_length=24)]


class Line(Struct):
    text: Annotated[str, Meta(min_length=1, max_length=500)]


async def may_join(page: pagews.Page, topic: str) -> bool:
    """The application's ``authorize``: whoever has a name may listen to the chat, and nobody to anything else."""
    return topic == TOPIC and await page.get(NAME) is not None


@delegates.on("chat_name")
async def choose_name(page: pagews.Page, data: Introduction) -> None:
    name = data.name.strip()
    if not name:
        raise pagews.DelegateError("no-name", "A name needs a letter or two.")
    if name.casefold() in (other.casefold() for other in await names_here(page.app)):
        raise pagews.DelegateError("name-taken", f"Somebody here is called {name} already.")
    await page.set(NAME, name)


@delegates.on("chat_arrive")
async def arrive(page: pagews.Page, data: None) -> list[dict[str, str]]:
    # Not before the page has joined: what is said in between would be in neither.
    await tell_who_is_there(page.app)
    return await last_lines(page.app)


@delegates.on("chat_say")
async def say(page: pagews.Page, data: Line) -> None:
    name = await page.get(NAME)
    if name is None:
        raise pagews.DelegateError("no-name", "Choose a name first.")
    said = await page.get(LINES, [])
    await page.set(LINES, [*said, {"at": time.time(), "text": data.text}][-REMEMBERED_LINES:])
    await pagews.get_publisher(page.app).topic(TOPIC).push("chat_line", {"name": name, "text": data.text})


@delegates.on("chat_leave")
async def leave(page: pagews.Page, data: None) -> None:
    await page.set(NAME, None)
    await page.set(LINES, None)
    await tell_who_is_there(page.app)


async def everyones(app: web.Application, variable: str) -> list[tuple[pagews.Page, Any]]:
    """A variable of all pages in the chat that have it."""
    pages = await pagews.get_publisher(app).topic(TOPIC).pages()
    values = await asyncio.gather(*(page.get(variable) for page in pages))
    return [(page, value) for page, value in zip(pages, values, strict=True) if value is not None]


async def names_here(app: web.Application) -> list[str]:
    return sorted((name for _, name in await everyones(app, NAME)), key=str.casefold)


async def last_lines(app: web.Application) -> list[dict[str, str]]:
    """What those who are here have said lately."""
    names = dict(await everyones(app, NAME))
    lines = [
        (line["at"], names.get(page, ""), line["text"]) for page, said in await everyones(app, LINES) for line in said
    ]
    return [{"name": name, "text": text} for _, name, text in sorted(lines)[-REMEMBERED_LINES:]]


async def tell_who_is_there(app: web.Application) -> None:
    await pagews.get_publisher(app).topic(TOPIC).push("chat_people", await names_here(app))


async def came_or_went(page: pagews.Page) -> None:
    # Of a page whose worker has died the topics are not known; of one that is gone the name is not.
    if TOPIC in page.topics or await page.get(NAME) is not None:
        await tell_who_is_there(page.app)


def setup(app: web.Application) -> None:
    app.on_startup.append(listen)


async def listen(app: web.Application) -> None:
    publisher = pagews.get_publisher(app)
    publisher.on_attach.append(came_or_went)
    publisher.on_detach.append(came_or_went)
