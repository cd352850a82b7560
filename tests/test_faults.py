"""The fault proxy does to a connection what it says, at the byte where it says, and no more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.faults import HOST, FaultProxy, Link, after_frame, after_header, inside_frame

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

TEXT = b"0123456789"
HEADER = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
UPGRADE = b"GET /socket HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\n\r\n"


class Server:
    """Keeps both ends of what connects, so that a test can be the server."""

    def __init__(self) -> None:
        self.port = 0
        self._accepted: asyncio.Queue[Streams] = asyncio.Queue()
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self) -> asyncio.Server:
        server = await asyncio.start_server(self._accept, HOST, 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self._accepted.put_nowait((reader, writer))

    async def accepted(self) -> Streams:
        return await self._accepted.get()

    async def end(self) -> None:
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    async with await server.start():
        yield server
        await server.end()


@pytest.fixture
async def proxy(server: Server) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(HOST, server.port) as proxy:
        yield proxy


class Talk:
    """One connection from end to end."""

    def __init__(self, client: Streams, server: Streams, link: Link) -> None:
        self.reader, self.writer = client
        self.server_reader, self.server_writer = server
        self.link = link


@pytest.fixture
async def talk(server: Server, proxy: FaultProxy) -> AsyncIterator[Talk]:
    client = await asyncio.open_connection(HOST, proxy.port)
    yield Talk(client, await server.accepted(), await proxy.connected())
    client[1].close()
    await asyncio.gather(client[1].wait_closed(), return_exceptions=True)


def frame(payload: bytes, mask: bytes = b"") -> bytes:
    """A short text frame, masked as a browser does it when there is a mask."""
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload)) if mask else payload
    return bytes([0x81, len(payload) | (0x80 if mask else 0)]) + mask + masked


async def test_hands_on_and_records_both_directions(proxy: FaultProxy, talk: Talk) -> None:
    talk.writer.write(b"ping")
    assert await talk.server_reader.readexactly(4) == b"ping"
    talk.server_writer.write(b"pong!")
    assert await talk.reader.readexactly(5) == b"pong!"

    assert (bytes(talk.link.up.data), bytes(talk.link.down.data)) == (b"ping", b"pong!")
    assert proxy.links == [talk.link]
    assert proxy.counts == {"connected": 1}


async def test_an_end_from_the_client_reaches_the_server_and_back(proxy: FaultProxy, talk: Talk) -> None:
    talk.writer.write_eof()
    assert await talk.server_reader.read() == b""
    talk.server_writer.write(b"bye")
    talk.server_writer.close()

    assert await talk.reader.read() == b"bye"
    await talk.link.ended()
    assert talk.link.how == "closed"
    assert proxy.counts == {"connected": 1, "closed": 1}


async def test_cut_ends_both_sides(proxy: FaultProxy, talk: Talk) -> None:
    talk.link.cut()
    talk.link.cut()

    assert await talk.reader.read() == b""
    assert await talk.server_reader.read() == b""
    assert talk.link.how == "cut"
    assert proxy.counts["cut"] == 1


async def test_reset_breaks_both_sides(proxy: FaultProxy, talk: Talk) -> None:
    talk.link.reset()

    for reader in (talk.reader, talk.server_reader):
        with pytest.raises(ConnectionResetError):
            await reader.read()
    assert talk.link.how == "reset"
    assert proxy.counts["reset"] == 1


async def test_a_break_of_the_server_is_handed_on_and_is_no_fault_of_ours(proxy: FaultProxy, talk: Talk) -> None:
    async with FaultProxy(HOST, proxy.port) as breaker:
        reader, writer = await asyncio.open_connection(HOST, breaker.port)
        inner = await proxy.connected()
        (await breaker.connected()).reset()

        with pytest.raises(ConnectionResetError):
            await reader.read()
        await inner.ended()
        assert inner.how == "broken"
        assert proxy.counts["reset"] == 0
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


@pytest.mark.parametrize("count", range(len(TEXT) + 1))
@pytest.mark.parametrize("piece", [0, 1])
async def test_cut_after_every_byte_down(talk: Talk, count: int, piece: int) -> None:
    talk.link.down.piece = piece
    talk.link.down.cut_after(count)
    talk.server_writer.write(TEXT)

    assert await talk.reader.read() == TEXT[:count]
    await talk.link.ended()
    assert talk.link.down.data == TEXT[:count]


@pytest.mark.parametrize("count", range(len(TEXT) + 1))
async def test_cut_after_every_byte_up(talk: Talk, count: int) -> None:
    talk.link.up.cut_after(count)
    talk.writer.write(TEXT)

    assert await talk.server_reader.read() == TEXT[:count]
    assert talk.link.how == "cut"


async def test_cut_counts_from_the_beginning_of_the_connection(talk: Talk) -> None:
    talk.server_writer.write(TEXT)
    await talk.link.down.until(lambda data: data == TEXT)
    talk.link.down.cut_after(13)
    talk.server_writer.write(TEXT)

    assert await talk.reader.read() == TEXT + TEXT[:3]


async def test_cut_by_reset_at_a_byte(proxy: FaultProxy, talk: Talk) -> None:
    talk.link.up.cut_after(3, reset=True)
    talk.writer.write(TEXT)

    await talk.link.ended()
    assert talk.link.up.data == TEXT[:3]
    assert proxy.counts == {"connected": 1, "reset": 1}


async def test_stall_holds_back_until_resume(proxy: FaultProxy, talk: Talk) -> None:
    talk.link.stall()
    talk.server_writer.write(TEXT)
    talk.writer.write(TEXT)
    await talk.server_writer.drain()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(talk.reader.read(1), 0.05)
    assert not talk.link.down.data

    talk.link.resume()
    assert await talk.reader.readexactly(len(TEXT)) == TEXT
    assert await talk.server_reader.readexactly(len(TEXT)) == TEXT
    assert proxy.counts == {"connected": 1, "stalled": 2, "resumed": 2}


async def test_stall_of_one_direction_leaves_the_other_alone(talk: Talk) -> None:
    talk.link.down.stall()
    talk.server_writer.write(TEXT)
    talk.writer.write(b"up")

    assert await talk.server_reader.readexactly(2) == b"up"
    assert not talk.link.down.data


async def test_stall_fills_the_sender_up(talk: Talk) -> None:
    talk.link.down.stall()
    talk.server_writer.transport.set_write_buffer_limits(high=0)
    talk.server_writer.write(b"x" * 32 * 1024 * 1024)
    assert talk.server_writer.transport.get_write_buffer_size() > 0
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(talk.server_writer.drain(), 0.05)

    talk.link.down.resume()
    assert len(await talk.reader.readexactly(32 * 1024 * 1024)) == 32 * 1024 * 1024


async def test_a_stalled_connection_can_be_cut(talk: Talk) -> None:
    talk.link.stall()
    talk.server_writer.write(TEXT)
    await talk.server_writer.drain()
    talk.link.cut()

    assert await talk.reader.read() == b""


async def test_delay_holds_every_chunk_for_its_time(proxy: FaultProxy, talk: Talk) -> None:
    talk.link.down.delay = 0.05
    before = asyncio.get_running_loop().time()
    talk.server_writer.write(TEXT)

    assert await talk.reader.readexactly(len(TEXT)) == TEXT
    assert asyncio.get_running_loop().time() - before >= 0.05
    assert proxy.counts["delayed"] == 1


async def test_pieces_arrive_one_by_one(proxy: FaultProxy, server: Server) -> None:
    arrived: list[bytes] = []

    class Client(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            arrived.append(data)

    transport, _ = await asyncio.get_running_loop().create_connection(Client, HOST, proxy.port)
    writer = (await server.accepted())[1]
    link = await proxy.connected()
    link.down.piece = 1
    link.down.cut_after(len(TEXT))
    writer.write(TEXT)
    await link.ended()

    assert arrived[: len(TEXT)] == [bytes([byte]) for byte in TEXT]
    assert proxy.counts["pieces"] == len(TEXT)
    transport.close()


async def test_half_close_ends_one_direction_alone(proxy: FaultProxy, talk: Talk) -> None:
    talk.link.down.half_close()
    talk.link.down.half_close()

    assert await talk.reader.read() == b""
    talk.writer.write(TEXT)
    assert await talk.server_reader.readexactly(len(TEXT)) == TEXT
    assert talk.link.open
    assert proxy.counts["half closed"] == 1


async def test_waiting_for_what_cannot_come_ends(talk: Talk) -> None:
    waiting = asyncio.create_task(talk.link.down.until(lambda data: bool(data)))
    talk.link.cut()

    with pytest.raises(ConnectionError):
        await waiting


async def test_refusing_and_accepting_again(proxy: FaultProxy, server: Server) -> None:
    proxy.refusing = True
    reader, writer = await asyncio.open_connection(HOST, proxy.port)
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()
    await asyncio.gather(writer.wait_closed(), return_exceptions=True)
    assert proxy.counts == {"refused": 1}

    proxy.refusing = False
    _, writer = await asyncio.open_connection(HOST, proxy.port)
    assert (await proxy.connected()).open
    writer.close()
    await writer.wait_closed()


async def test_a_server_that_is_not_there(server: Server) -> None:
    async with FaultProxy(HOST, 1) as proxy:
        reader, writer = await asyncio.open_connection(HOST, proxy.port)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        assert proxy.counts == {"unreachable": 1}
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def test_faults_of_all_connections_at_once(proxy: FaultProxy, server: Server) -> None:
    clients = [await asyncio.open_connection(HOST, proxy.port) for _ in range(3)]
    for _ in clients:
        await proxy.connected()
    proxy.stall()
    proxy.resume()
    assert (proxy.counts["stalled"], proxy.counts["resumed"]) == (6, 6)

    proxy.cut()
    for reader, writer in clients:
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
    assert proxy.counts["cut"] == 3
    assert proxy.open_links == []


async def test_a_request_to_upgrade_is_told_before_the_server_hears_of_it(proxy: FaultProxy, talk: Talk) -> None:
    proxy.on_upgrade = Link.cut
    talk.writer.write(UPGRADE)

    assert await proxy.upgraded() is talk.link
    assert await talk.server_reader.read() == b""
    assert proxy.counts["upgraded"] == 1


async def test_a_request_to_upgrade_in_pieces_is_told_once(proxy: FaultProxy, talk: Talk) -> None:
    talk.link.up.piece = 1
    talk.writer.write(UPGRADE[:40])
    assert await talk.server_reader.readexactly(40) == UPGRADE[:40]
    talk.writer.write(UPGRADE[40:])
    await talk.server_reader.readexactly(len(UPGRADE) - 40)
    talk.writer.write(frame(b"one", b"mask"))
    await talk.link.up.passed(b"one")

    assert proxy.counts["upgraded"] == 1


async def test_a_connection_can_be_prepared_before_its_first_byte(proxy: FaultProxy, server: Server) -> None:
    proxy.on_connect = lambda link: link.up.cut_after(2)
    _, writer = await asyncio.open_connection(HOST, proxy.port)
    writer.write(TEXT)

    assert await (await server.accepted())[0].read() == TEXT[:2]
    writer.close()
    await asyncio.gather(writer.wait_closed(), return_exceptions=True)


@pytest.mark.parametrize("split", [1, len(HEADER) - 1, len(HEADER), len(HEADER) + 1])
async def test_cut_at_the_end_of_the_header_however_it_comes(talk: Talk, split: int) -> None:
    stream = HEADER + frame(b"one")
    talk.link.down.cut_when(after_header)
    talk.server_writer.write(stream[:split])
    if split < len(HEADER):
        await talk.link.down.until(lambda data: len(data) == split)
        talk.server_writer.write(stream[split:])

    assert await talk.reader.read() == HEADER


@pytest.mark.parametrize("split", range(len(HEADER) + 1, len(HEADER) + 10))
async def test_cut_at_the_end_of_a_frame_however_it_comes(talk: Talk, split: int) -> None:
    stream = HEADER + frame(b"one") + frame(b"two") + frame(b"three")
    talk.link.down.cut_when(after_frame(b"two"))
    talk.server_writer.write(stream[:split])
    await talk.link.down.until(lambda data: len(data) == split)
    talk.server_writer.write(stream[split:])

    assert await talk.reader.read() == HEADER + frame(b"one") + frame(b"two")


@pytest.mark.parametrize("split", range(len(HEADER), len(HEADER) + 10))
async def test_cut_inside_a_frame_however_it_comes(talk: Talk, split: int) -> None:
    stream = HEADER + frame(b"one") + frame(b"two") + frame(b"three")
    talk.link.down.cut_when(inside_frame(b"two"))
    talk.server_writer.write(stream[:split])
    await talk.link.down.until(lambda data: len(data) == split)
    talk.server_writer.write(stream[split:])

    whole = len(HEADER + frame(b"one"))
    assert whole < len(await talk.reader.read()) < whole + len(frame(b"two"))


async def test_cut_inside_a_masked_frame_up(talk: Talk) -> None:
    stream = HEADER + frame(b"one", b"\5\6\7\10") + frame(b"two", b"\1\2\3\4")
    talk.link.up.cut_when(inside_frame(b"two"))
    talk.writer.write(stream)

    assert len(HEADER) + 9 < len(await talk.server_reader.read()) < len(stream)
