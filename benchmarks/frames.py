"""The bytes of WebSockets, and of requests."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator, Mapping

TEXT = 1
CLOSE = 8

# A client must mask. A key of zeros leaves the text as it is, and the server takes it off at the same cost.
_MASK_KEY = bytes(4)


def upgrade_request(port: int, path: str, headers: Mapping[str, str]) -> bytes:
    """The HTTP request that opens a WebSocket."""
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {base64.b64encode(secrets.token_bytes(16)).decode()}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join((*lines, "", "")).encode()


def post_request(port: int, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """The HTTP request that sends JSON, over a connection that is kept."""
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join((*lines, "", "")).encode() + body


def text_frame(text: bytes) -> bytes:
    """A masked text frame of at most 65,535 bytes."""
    if len(text) < 126:
        return bytes((0x80 | TEXT, 0x80 | len(text))) + _MASK_KEY + text
    return bytes((0x80 | TEXT, 0x80 | 126)) + len(text).to_bytes(2, "big") + _MASK_KEY + text


def server_frame(text: bytes) -> bytes:
    """An unmasked text frame of less than 126 bytes, as a server sends it."""
    return bytes((0x80 | TEXT, len(text))) + text


class FrameReader:
    """Cuts what a server sends into frames, wherever the packets end."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """The opcode and payload of every frame that is complete now."""
        if self._rest:
            data = self._rest + data
        position, end = 0, len(data)
        while end - position >= 2:
            length, start = data[position + 1], position + 2
            if length >= 126:
                start += 2 if length == 126 else 8
                if start > end:
                    break
                length = int.from_bytes(data[position + 2 : start], "big")
            if start + length > end:
                break
            yield data[position] & 0x0F, data[start : start + length]
            position = start + length
        self._rest = data[position:]
