"""Requests and WebSocket frames byte by byte, as no client library would send them."""

from __future__ import annotations

import asyncio
import struct
from typing import Final, NamedTuple, Self

HOST: Final = "127.0.0.1"

#: Seconds that any answer may take.
PATIENCE: Final = 10.0


class RawAnswer(NamedTuple):
    """A response: its status, its headers as they came, one by one, and all that followed them."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        """The values of every header of a name, in lower case."""
        return [value for each, value in self.headers if each == name]


async def ask_raw(port: int, line: str, *headers: str | bytes, body: bytes = b"") -> RawAnswer:
    """One request over a connection of its own, which ends with it; returns what came until then.

    Arguments:
        line: the request line without its version.
        headers: whole lines, besides `Connection: close` and the length of the body.
    """
    usual: list[str | bytes] = [f"{line} HTTP/1.1", "Connection: close", f"Content-Length: {len(body)}"]
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(b"\r\n".join([*map(_encoded, [*usual, *headers]), b"\r\n"]) + body)
        async with asyncio.timeout(PATIENCE):
            head, _, rest = (await reader.read(-1)).partition(b"\r\n\r\n")
    finally:
        writer.close()
    first, *others = head.decode().split("\r\n")
    found = [(name.lower(), value.strip()) for name, _, value in (each.partition(":") for each in others)]
    return RawAnswer(int(first.split()[1]), found, rest)


def _encoded(line: str | bytes) -> bytes:
    return line if isinstance(line, bytes) else line.encode()


class RawSocket:
    """A WebSocket that is written to in bytes: `async with await RawSocket.open(port) as socket:`

    Attributes:
        answer: the head of the server's answer to the upgrade.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: str) -> None:
        self.answer = answer
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int, *headers: str | bytes) -> Self:
        """Upgrade, with more headers than usual."""
        reader, writer = await asyncio.open_connection(HOST, port)
        lines: list[str | bytes] = [
            *("GET /pagews/socket HTTP/1.1", f"Host: {HOST}:{port}", f"Origin: http://{HOST}:{port}"),
            *("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"),
            *("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Protocol: pagews.v1"),
            *headers,
        ]
        writer.write(b"\r\n".join([*map(_encoded, lines), b"\r\n"]))
        async with asyncio.timeout(PATIENCE):
            answer = (await reader.readuntil(b"\r\n\r\n")).decode()
        assert answer.startswith("HTTP/1.1 101 "), answer
        return cls(reader, writer, answer)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        self._writer.transport.abort()

    async def write(self, *frames: bytes) -> None:
        """Write frames; returns when the server has taken what can be on the way."""
        self._writer.writelines(frames)
        await self._writer.drain()

    async def closed(self) -> int:
        """The code of the close frame, whatever comes before it."""
        async with asyncio.timeout(PATIENCE):
            while True:
                opcode, payload = await self.read()
                if opcode == 0x8:
                    return int(struct.unpack("!H", payload[:2])[0])

    async def read(self) -> tuple[int, bytes]:
        """The opcode and payload of the next frame of the server."""
        first, size = await self._reader.readexactly(2)
        if size >= 126:
            size = int.from_bytes(await self._reader.readexactly(2 if size == 126 else 8), "big")
        return first & 0x0F, await self._reader.readexactly(size)


def frame_head(first: int, size: int) -> bytes:
    """The beginning of a masked frame, with a mask that changes nothing."""
    if size < 126:
        return bytes((first, 0x80 | size)) + bytes(4)
    if size < 65536:
        return struct.pack("!BBH", first, 0x80 | 126, size) + bytes(4)
    return struct.pack("!BBQ", first, 0x80 | 127, size) + bytes(4)


def frame(first: int, payload: bytes) -> bytes:
    """A masked frame. `first`: its first byte, 0x81 for a whole text."""
    return frame_head(first, len(payload)) + payload
