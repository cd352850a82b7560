"""The parts of a form, as browsers write them, and as nobody should."""

from __future__ import annotations

import warnings
from typing import Final

import aiohttp.multipart
import pytest

from pagews.site import get_site
from tests.posted_forms import END, Clerk, own, part, post_form
from tests.sites import TestSite, serving
from tests.wire_client import Visitor

#: Names, and what browsers make of them.
NAMES: Final = [
    ("a.txt", "a.txt"),
    ("report; final; v2.pdf", "report; final; v2.pdf"),
    ('x"; filename="y', "x%22; filename=%22y"),
    ('"quoted"', "%22quoted%22"),
    ("C:\\photos\\new.png", "C:\\photos\\new.png"),
    ("a\\", "a\\"),
    ('a\\"b', "a\\%22b"),
    ("two\nlines\r", "two%0Alines%0D"),
    ("100%, %41=A", "100%, %41=A"),
    ("фото 🍋.png", "фото 🍋.png"),
    ("../../etc/passwd", "../../etc/passwd"),
    ("", ""),
]


@pytest.mark.parametrize(("name", "written"), NAMES)
async def test_names_arrive_as_they_are(name: str, written: str) -> None:
    clerk = Clerk()
    async with serving(TestSite(delegates=clerk.delegates)) as site, Visitor(site.url) as visitor:
        body = own(await visitor.token(), "keep")
        body += part(f'form-data; name="{written}"', b"text") + part(f'form-data; name="f"; filename="{written}"', b"1")
        assert (await post_form(visitor, body + END)).status == 200
    [data] = clerk.data
    assert list(data) == [name, "f"]
    assert data[name] == "text"
    assert (data["f"].filename, data["f"].size) == (name, 1)


JUNK: Final = "j" * 3000

HOSTILE: Final = [
    "",
    JUNK,
    f"form-data; {JUNK}",
    f'form-data; name="x"; {JUNK}',
    f'form-data; name="x";;{JUNK}',
    f'form-data; name="x"; name="{JUNK}"',
    f'form-data; name="x"; file@name="{JUNK}"',
    f'form-data; name="x"; filename={JUNK}',
    f"form-data; name=\"x\"; filename*=utf-8''{JUNK}",
    f'form-data; name="x"; filename*=nothing\'{JUNK}',
    f'form-data; name="x"; filename*0="{JUNK}"; filename*9="{JUNK}"',
    f'form-data; name="{JUNK}',
    f'form-data; name="x\\"{JUNK}"',
    f'form-da;ta; name="{JUNK}"',
    f"@; {JUNK}",
]


@pytest.mark.parametrize("disposition", HOSTILE, ids=range(len(HOSTILE)))
async def test_what_no_browser_writes_is_refused_and_leaves_no_warning(disposition: str) -> None:
    """Python keeps the text of every warning, and each could be another."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        async with serving(TestSite(delegates=Clerk().delegates)) as site, Visitor(site.url) as stranger:
            # Also behind a part that is good: aiohttp looks at the first more closely.
            for before in (b"", part('form-data; name="a"')):
                assert (await post_form(stranger, before + part(disposition) + END)).status == 400
            assert get_site(site.app).counters.refused == {"malformed form": 2}
    assert [str(each.message) for each in warned if each.filename == aiohttp.multipart.__file__] == []


async def test_names_that_are_no_utf_8() -> None:
    clerk = Clerk()
    async with serving(TestSite(delegates=clerk.delegates)) as site, Visitor(site.url) as visitor:
        for name in (b'name="\xff"', b'name="f"; filename="\xff"'):
            body = own(await visitor.token(), "keep") + part("form-data; NAME", b"x").replace(b"NAME", name)
            assert (await post_form(visitor, body + END)).status == 400
    assert clerk.data == []


@pytest.mark.parametrize("kind", ["multipart/related", "multipart/mixed; boundary=i"])
async def test_file_that_is_made_of_parts_is_a_file(kind: str) -> None:
    """A page that a browser has saved in one file, `.mhtml`."""
    content = b"--i\r\nContent-Type: text/plain\r\n\r\nx\r\n--i--\r\n" * 3000
    clerk = Clerk()
    async with serving(TestSite(delegates=clerk.delegates)) as site, Visitor(site.url) as visitor:
        file = part(f'form-data; name="f"; filename="a.mhtml"\r\nContent-Type: {kind}', content)
        body = own(await visitor.token(), "keep") + file + part('form-data; name="x"', b"1") + END
        assert (await post_form(visitor, body)).status == 200
    [data] = clerk.data
    assert (data["f"].size, data["f"].content_type, data["x"]) == (len(content), kind, "1")
