"""What is known to be wrong with older releases of what pagews is built on."""

from __future__ import annotations

from typing import Final, NamedTuple


class Advisory(NamedTuple):
    """A flaw that somebody has published. `fixed`: the first release without it."""

    name: str
    distribution: str
    fixed: str
    flaw: str


ADVISORIES: Final = (
    Advisory("PYSEC-2026-2103", "aiohttp", "3.13.4", "several Host headers in one request are taken"),
    Advisory("CVE-2026-22815", "aiohttp", "3.13.4", "trailers of a request take memory without a bound"),
    Advisory("PYSEC-2026-2108", "aiohttp", "3.14.1", "incomplete WebSocket frames get around the size limit"),
    Advisory("PYSEC-2026-2110", "aiohttp", "3.14.1", "the C parser does not bound every line of a request"),
    Advisory("PYSEC-2026-4369", "aiohttp", "3.14.4", "any client can spoof the scheme of its request"),
    Advisory("PYSEC-2026-4371", "aiohttp", "3.14.4", "the Python parser takes ambiguous requests"),
    Advisory("PYSEC-2026-4389", "aiohttp", "3.14.4", "a WebSocket frame in tiny pieces takes many times its size"),
    Advisory("PYSEC-2026-4395", "aiohttp", "3.14.4", "a WebSocket frame of nearly 2^63 bytes passes the size limit"),
    Advisory("CVE-2026-26007", "cryptography", "46.0.5", "a public key on a binary curve reveals the private one"),
    Advisory("CVE-2026-34073", "cryptography", "46.0.6", "name constraints are not applied to wildcard certificates"),
    Advisory("CVE-2026-39892", "cryptography", "46.0.7", "a buffer that is not contiguous is read beyond its end"),
    Advisory("GHSA-537c-gmf6-5ccf", "cryptography", "48.0.1", "its wheels bring an OpenSSL with flaws"),
    Advisory("CVE-2026-69247", "cryptography", "50.0.0", "PKCS#7 decryption is an oracle"),
    Advisory("CVE-2024-22195", "jinja2", "3.1.3", "xmlattr takes names with spaces"),
    Advisory("CVE-2024-34064", "jinja2", "3.1.4", "xmlattr takes names with characters that end a name"),
    Advisory("CVE-2024-56326", "jinja2", "3.1.5", "the sandbox can be left by a stored reference to str.format"),
    Advisory("CVE-2025-27516", "jinja2", "3.1.6", "the sandbox can be left by the attr filter"),
    Advisory("CVE-2023-28858", "redis", "4.5.3", "a cancelled command leaves its reply to another's"),
    Advisory("CVE-2023-28859", "redis", "4.5.4", "a cancelled command leaves its reply to another's, once more"),
)
