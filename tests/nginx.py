"""A real nginx in front of a site, with the settings that the documentation shows.

    async with Nginx(program, directory, plain(SERVER), site.port) as nginx:
        ...                                   # the client connects to nginx.url

It listens on 127.0.0.1 and keeps its files in `directory`, as root or not.
"""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import os
import pwd
import re
import socket
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.faults import HOST
from tests.markdown import ROOT, blocks

GUIDE: Final = "docs/how-to/behind-a-proxy.md"

#: What the guide shows for nginx: a whole server, a location for what pages ask for, a line that tells of visitors, a
#: server that strips a path.
SERVER, PAGEWS_LOCATION, FORWARDED, SHOP_SERVER = (
    block.code for block in blocks(ROOT / GUIDE) if block.language == "nginx"
)

#: Seconds that nginx may take to start, or to end.
PATIENCE: Final = 10.0

_CONFIG: Final = """
daemon off;
{user}
worker_processes 1;
pid {directory}/pid;
error_log stderr notice;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
{settings}
}}
"""


# --- settings, changed ------------------------------------------------------------------------------------------------


def plain(settings: str) -> str:
    """A server without TLS."""
    return _replaced(r"listen 443 ssl;", "listen 80;", without(settings, "ssl_certificate"))


def with_http2(settings: str) -> str:
    """A server that also speaks HTTP/2, said as every nginx understands it."""
    return _replaced(r"listen 443 ssl;", "listen 443 ssl http2;", settings)


def without(settings: str, words: str) -> str:
    """Leave out the lines in which some words are."""
    return _replaced(rf"^.*{words}.*\n", "", settings)


def within(settings: str, more: str) -> str:
    """Add something to a server."""
    return _replaced(r"^}\n\Z", f"{more}\n}}\n", settings)


def _replaced(pattern: str, by: str, settings: str) -> str:
    changed, count = re.subn(pattern, by, settings, flags=re.MULTILINE)
    assert count, f"{GUIDE} has no {pattern!r}"
    return changed


def without_websockets(settings: str) -> str:
    """A server that knows nothing of WebSockets, like those of old."""
    return without(settings, "proxy_set_header (Upgrade|Connection)")


# --- nginx ------------------------------------------------------------------------------------------------------------


class Nginx:
    """An nginx in a process of its own.

    Arguments:
        program: where it is.
        directory: an empty one for what it keeps.
        settings: a server as the guide has it; its port, that of the site and the certificate are replaced.
        port: of the site behind it.

    Attributes:
        url: its address, without a slash at the end.
        said: what it has written to its error log.
    """

    def __init__(self, program: Path, directory: Path, settings: str, port: int) -> None:
        self.said: list[str] = []
        self._socket = socket.create_server((HOST, 0))
        # It inherits the socket, as from an nginx that it replaces: no other process can take the port before it.
        self._socket.setblocking(False)
        address = f"{HOST}:{self._socket.getsockname()[1]}"
        self.url = f"{'https' if ' ssl' in settings else 'http'}://{address}"
        settings = _replaced(r"listen \d+", f"listen {address}", settings)
        settings = _replaced(r"proxy_pass http://127\.0\.0\.1:8080", f"proxy_pass http://{HOST}:{port}", settings)
        if "ssl_certificate" in settings:
            certificate, key = _make_certificate(directory)
            settings = _replaced(r"(ssl_certificate +)\S+;", rf"\g<1>{certificate};", settings)
            settings = _replaced(r"(ssl_certificate_key +)\S+;", rf"\g<1>{key};", settings)
        config = directory / "nginx.conf"
        # Started by root it becomes another user, who may not look into the directory.
        user = f"user {pwd.getpwuid(0).pw_name};" if os.geteuid() == 0 else ""
        config.write_text(_CONFIG.format(user=user, directory=directory, settings=settings))
        self._command = [str(program), "-p", str(directory), "-c", str(config)]
        self._process: asyncio.subprocess.Process
        self._listening: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        with self._socket:
            descriptor = self._socket.fileno()
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                env={**os.environ, "NGINX": f"{descriptor};"},
                pass_fds=[descriptor],
            )
        started = asyncio.Event()
        self._listening = asyncio.create_task(self._listen(started))
        try:
            async with asyncio.timeout(PATIENCE):
                await started.wait()
            assert not self._listening.done(), "".join(self.said)
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._end()

    async def _listen(self, started: asyncio.Event) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            self.said.append(line.decode())
            if b"start worker process" in line:
                started.set()
        # Nothing more comes: it has ended, perhaps before it began.
        started.set()

    async def _end(self) -> None:
        if self._process.returncode is None:
            self._process.terminate()
        try:
            async with asyncio.timeout(PATIENCE):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            raise
        await self._listening


def _make_certificate(directory: Path) -> tuple[Path, Path]:
    """A certificate that nobody but itself vouches for, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = directory / "certificate.pem", directory / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths
