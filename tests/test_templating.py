"""Opening pages and the script include."""

from __future__ import annotations

from typing import Any

import aiohttp_jinja2
import jinja2
import pytest
from aiohttp import web
from pytest_aiohttp.plugin import AiohttpClient

import pagews
from pagews.site import get_site
from pagews.templating import pagews_script
from pagews.testing import Browser, find_include
from pagews.tokens import Token

from .apps import KEY, TEMPLATES, application


def view(template: str, topics: list[str] | None = None) -> Any:
    async def answer(request: web.Request) -> web.StreamResponse:
        if topics is not None:
            await pagews.open_page(request, topics=topics)
        return aiohttp_jinja2.render_template(template, request, {})

    return answer


def read(app: web.Application, html: str) -> Token:
    token = get_site(app).tokens.read(find_include(html)["data-page"] or "")
    assert token is not None
    return token


async def test_the_include_without_a_page_of_the_view(aiohttp_client: AiohttpClient) -> None:
    app = application()
    client = await aiohttp_client(app)
    async with client.get("/") as response:
        html = await response.text()
        assert response.headers["Cache-Control"] == "private, no-cache"
    include = find_include(html)
    assert include["src"] == "/pagews/static/pagews.js"
    assert include["type"] == "module"
    assert include["data-pagews"] == "/pagews"
    assert "nonce" not in include
    assert "data-nostream" not in include
    token = read(app, html)
    assert token.topics == []
    assert token.user is None


async def test_nonce_and_nostream(aiohttp_client: AiohttpClient) -> None:
    app = application()
    app.router.add_get("/n", view("nostream.html"))
    client = await aiohttp_client(app)
    async with client.get("/n") as response:
        html = await response.text()
    assert 'nonce="n&#34;x"' in html
    assert "data-nostream" in find_include(html)


async def test_twice_in_a_request_is_the_same_page_with_the_topics_of_both(aiohttp_client: AiohttpClient) -> None:
    app = application()
    opened: list[pagews.Page] = []

    async def twice(request: web.Request) -> web.StreamResponse:
        opened.append(await pagews.open_page(request, topics=["b"]))
        opened.append(await pagews.open_page(request, topics=["a", "b"]))
        return aiohttp_jinja2.render_template("twice.html", request, {})

    app.router.add_get("/twice", twice)
    client = await aiohttp_client(app)
    async with client.get("/twice") as response:
        html = await response.text()
    assert opened[0] is opened[1]
    assert opened[0].topics == {"a", "b"}
    assert not opened[0].attached
    assert read(app, html).page == opened[0].id
    assert read(app, html).topics == ["a", "b"]


async def test_plain_jinja2(aiohttp_client: AiohttpClient) -> None:
    environment = jinja2.Environment(autoescape=True)
    app = web.Application()
    pagews.setup(app, secret_key=KEY)

    async def plain(request: web.Request) -> web.Response:
        page = await pagews.open_page(request)
        html = environment.from_string("<p>{{ tag }}</p>").render(tag=pagews.script_tag(page, nonce="abc"))
        return web.Response(text=html, content_type="text/html")

    app.router.add_get("/", plain)
    async with Browser(await aiohttp_client(app)) as browser:
        page = await browser.open()
        assert page.include["nonce"] == "abc"
        assert page.connected


async def test_what_was_pushed_before_the_view_read_its_data_is_not_lost(aiohttp_client: AiohttpClient) -> None:
    """The cursor is taken when the request begins: what comes while the view works, the page gets."""
    app = application()

    async def slow(request: web.Request) -> web.StreamResponse:
        await pagews.get_publisher(request).topic("news").push("headline", "while the view read its data")
        await pagews.open_page(request, topics=["news"])
        return aiohttp_jinja2.render_template("page.html", request, {})

    app.router.add_get("/slow", slow)
    async with Browser(await aiohttp_client(app)) as browser:
        page = await browser.open("/slow")
        assert await page.expect("headline") == "while the view read its data"


async def test_in_a_sub_app_with_a_prefix(aiohttp_client: AiohttpClient) -> None:
    sub, app = application(), web.Application()
    app.add_subapp("/shop", sub)
    async with Browser(await aiohttp_client(app)) as browser:
        page = await browser.open("/shop/")
        assert page.include["data-pagews"] == "/shop/pagews"
        await pagews.get_publisher(sub).page(page.id).push("d", 1)
        assert await page.expect("d") == 1


async def test_set_up_on_the_root_and_used_in_a_sub_app(aiohttp_client: AiohttpClient) -> None:
    app, sub = application(), web.Application()
    aiohttp_jinja2.setup(sub, loader=jinja2.DictLoader(TEMPLATES))
    sub.router.add_get("/", view("page.html", ["news"]))
    app.add_subapp("/sub", sub)
    async with Browser(await aiohttp_client(app)) as browser:
        page = await browser.open("/sub/")
        await pagews.get_publisher(app).topic("news").push("headline", 1)
        assert await page.expect("headline") == 1


async def test_aiohttp_jinja2_set_up_after_pagews(aiohttp_client: AiohttpClient) -> None:
    app = web.Application()
    pagews.setup(app, secret_key=KEY)
    aiohttp_jinja2.setup(app, loader=jinja2.DictLoader(TEMPLATES))
    app.router.add_get("/", view("page.html"))
    async with Browser(await aiohttp_client(app)) as browser:
        assert (await browser.open()).connected


async def test_behind_a_proxy_that_strips_a_path(aiohttp_client: AiohttpClient) -> None:
    client = await aiohttp_client(application(public_prefix="/app/pagews/"))
    async with client.get("/") as response:
        include = find_include(await response.text())
    assert include["src"] == "/app/pagews/static/pagews.js"
    assert include["data-pagews"] == "/app/pagews"


async def test_a_response_that_says_otherwise_about_caching(aiohttp_client: AiohttpClient) -> None:
    app = application()

    async def own(request: web.Request) -> web.StreamResponse:
        response = aiohttp_jinja2.render_template("page.html", request, {})
        response.headers["Cache-Control"] = "no-store"
        return response

    app.router.add_get("/own", own)
    app.router.add_get("/none", view("none.html"))
    client = await aiohttp_client(app)
    async with client.get("/own") as response:
        assert response.headers["Cache-Control"] == "no-store"
    async with client.get("/none") as response:
        assert "Cache-Control" not in response.headers


async def test_mistakes(aiohttp_client: AiohttpClient) -> None:
    app = application(limits=pagews.Limits(topics=2))
    found: list[str] = []

    async def wrong(request: web.Request) -> web.Response:
        topics: Any
        for topics in ("news", [7], [""], ["a", "b", "c"]):
            try:
                await pagews.open_page(request, topics=topics)
            except (TypeError, ValueError) as error:
                found.append(str(error))
        publisher = pagews.get_publisher(request)
        with pytest.raises(pagews.ConfigurationError, match="open_page"):
            pagews.script_tag(publisher.page("x"))  # type: ignore[arg-type]  # the mistake that is tested
        return web.Response()

    app.router.add_get("/wrong", wrong)
    app.router.add_get("/html", view("page.html"))
    client = await aiohttp_client(app)
    async with client.get("/wrong") as response:
        assert response.status == 200
    assert [text.split(":")[0] for text in found] == [
        "topics must be a list of names",
        "a topic must be a string, not int",
        "a topic ''",
        "a page of 3 topics is above limits.topics, 2",
    ]
    async with client.get("/html", headers={"Accept": "application/json"}) as response:
        assert response.status == 500


async def test_a_template_that_answers_no_request() -> None:
    app = application()
    environment = app[aiohttp_jinja2.APP_KEY]
    environment.globals["pagews_script"] = pagews_script
    with pytest.raises(pagews.ConfigurationError, match="answer a request"):
        environment.get_template("page.html").render()


async def test_not_set_up(aiohttp_client: AiohttpClient) -> None:
    app = web.Application()

    async def open_one(request: web.Request) -> web.Response:
        with pytest.raises(pagews.ConfigurationError, match=r"call pagews.setup\(app, ...\)"):
            await pagews.open_page(request)
        return web.Response()

    app.router.add_get("/", open_one)
    client = await aiohttp_client(app)
    async with client.get("/") as response:
        assert response.status == 200


@pytest.mark.parametrize("transport", ["websocket", "stream", "poll", None])
async def test_a_transport_that_is_forced(aiohttp_client: AiohttpClient, transport: Any) -> None:
    async def view(request: web.Request) -> web.Response:
        page = await pagews.open_page(request)
        with pytest.raises(ValueError, match="websocket, stream, poll"):
            pagews.script_tag(page, transport="carrier pigeon")  # type: ignore[arg-type]  # which is the point
        return web.Response(text=pagews.script_tag(page, transport=transport), content_type="text/html")

    app = application()
    app.router.add_get("/forced", view)
    client = await aiohttp_client(app)
    async with client.get("/forced") as response:
        assert find_include(await response.text()).get("data-transport") == transport
