"""The keys that tokens are signed with: rotation, floods of unknown keys, an endpoint that is away, and files."""

import asyncio
import json
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from joserfc.jwk import OctKey, RSAKey

from nexus_graph.door import key_sources
from nexus_graph.door.key_set import KEYS_MAX, UnusableKeys
from nexus_graph.door.key_sources import BYTES_MAX, KeyAddress, KeyFile
from nexus_graph.door.tokens import Tokens
from nexus_graph.errors import KeysUnavailable, Unauthenticated, UnusableAddress
from tests.stage.issuing import EC, NOW, OURS, RSA, Clock, KeyServer, key_server, key_set, token
from tests.unit.door.test_tokens import settings_of

NEW = RSAKey.generate_key(2048, {"kid": "new"})
MAX_AGE = 3_600


class Watched:
    """Tokens whose clocks the test moves."""

    def __init__(self, place: Path | str, **more: Any) -> None:
        self.now, self.clock = Clock(NOW), Clock(0.0)
        self.tokens = Tokens(settings_of(place, **more), now=self.now, clock=self.clock)
        assert self.tokens._jwks is not None
        self.jwks = self.tokens._jwks

    def pass_by(self, seconds: float) -> None:
        """Time passes, for the age of keys alone."""
        self.clock.seconds += seconds
        self.jwks._wake.set()

    async def counts(self, presented: bytes) -> bool:
        try:
            await self.tokens.principal(presented)
        except Unauthenticated:
            return False
        return True

    async def read_after(self, seconds: float) -> None:
        """So much time passes, and the read that is due then is over."""
        self.pass_by(seconds)
        async with asyncio.timeout(10):
            while self.jwks._reading is None:  # noqa: ASYNC110 - the next turn of the loop begins the read
                await asyncio.sleep(0)
        await self.settled()

    async def settled(self) -> None:
        """Return once no read is under way."""
        while self.jwks._reading is not None:
            await asyncio.wait({self.jwks._reading})
            await asyncio.sleep(0)


@asynccontextmanager
async def watching(place: Path | str, **more: Any) -> AsyncIterator[Watched]:
    watched = Watched(place, **more)
    await watched.tokens.start()
    try:
        yield watched
    finally:
        await watched.tokens.close()


@pytest.fixture
async def server() -> AsyncIterator[KeyServer]:
    async with key_server() as server:
        yield server


# Rotation and floods


async def test_a_new_key_causes_one_read(server: KeyServer) -> None:
    async with watching(server.url) as watched:
        assert await watched.counts(token())
        server.content = key_set(RSA, NEW)
        presented = token(NEW)
        assert await asyncio.gather(*(watched.counts(presented) for _ in range(50))) == [True] * 50
        assert await watched.counts(token())
        assert server.asked == 2
        assert server.requests[0].startswith(b"GET /keys HTTP/1.1\r\nHost: 127.0.0.1:")


async def test_unknown_keys_cause_one_read_a_minute_and_lock_nobody_out(server: KeyServer) -> None:
    async with watching(server.url) as watched:
        server.may_answer.clear()
        waiting = [asyncio.create_task(watched.counts(token(kid=f"unknown-{number}"))) for number in range(100)]
        await server.was_asked(2)
        assert await watched.counts(token())  # others do not wait
        server.may_answer.set()
        assert await asyncio.gather(*waiting) == [False] * 100
        for seconds in range(1, 7):
            for number in range(50):
                assert not await watched.counts(token(kid=f"unknown-{seconds}-{number}"))
            assert await watched.counts(token(EC, "ES256"))
            await watched.settled()
            assert server.asked == 2
            watched.pass_by(9.9)
        watched.pass_by(0.7)
        await server.was_asked(3)  # the read that the flood asked for
        await watched.settled()
        for number in range(50):
            assert not await watched.counts(token(kid=f"unknown-{number}"))
        await watched.settled()
        assert server.asked == 3


async def test_a_new_key_in_a_flood_is_known_by_the_end_of_the_minute(server: KeyServer) -> None:
    async with watching(server.url) as watched:
        assert not await watched.counts(token(kid="unknown"))
        server.content = key_set(RSA, NEW)
        assert not await watched.counts(token(NEW))
        watched.pass_by(60)
        await server.was_asked(3)
        await watched.settled()
        assert await watched.counts(token(NEW))
        assert server.asked == 3


async def test_each_minute_of_a_flood_has_its_read(server: KeyServer) -> None:
    """Whether the task or a token of an unknown key is first to see that the minute is over."""
    async with watching(server.url) as watched:
        for minute in range(10):
            assert not await watched.counts(token(kid="unknown"))
            await watched.settled()
            assert server.asked == 2 + minute
            assert not await watched.counts(token(kid="unknown"))  # asks for the next read
            if minute % 3:
                watched.pass_by(60)
                await server.was_asked(3 + minute)
                await watched.settled()
            else:
                watched.clock.seconds += 60


async def test_who_leaves_does_not_end_the_read_for_others(server: KeyServer) -> None:
    async with watching(server.url) as watched:
        server.content = key_set(RSA, NEW)
        server.may_answer.clear()
        leaving, staying = (asyncio.create_task(watched.counts(token(NEW))) for _ in range(2))
        await server.was_asked(2)
        leaving.cancel()
        await asyncio.wait({leaving})
        server.may_answer.set()
        assert await staying
        assert server.asked == 2


async def test_a_key_that_was_withdrawn_counts_no_more(server: KeyServer) -> None:
    async with watching(server.url) as watched:
        assert await watched.counts(token())
        server.content = key_set(EC)
        watched.pass_by(300)
        await server.was_asked(2)
        await watched.settled()
        assert watched.tokens.remembered(token()) is None
        assert not await watched.counts(token())
        assert await watched.counts(token(EC, "ES256"))


async def test_keys_are_read_again_before_they_age(server: KeyServer) -> None:
    async with watching(server.url, jwt_jwks_max_age_seconds=100) as watched:
        assert await watched.counts(token())
        kept = watched.jwks.current()
        for times in range(2, 6):
            watched.pass_by(50)
            await server.was_asked(times)
            await watched.settled()
            assert watched.jwks.current() is kept  # the same keys: what is remembered stays
        assert watched.tokens.remembered(token()) is not None


# An endpoint that is away


@pytest.mark.parametrize("warmed", [True, False])
async def test_an_outage_is_bridged_to_the_age_and_not_further(server: KeyServer, warmed: bool) -> None:  # noqa: FBT001 - a parameter of the test
    async with watching(server.url) as watched:
        if warmed:
            assert await watched.counts(token())
        server.head = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"
        watched.clock.seconds = 400
        watched.pass_by(0)
        await server.was_asked(2)
        await watched.settled()
        assert await watched.counts(token(EC, "ES256"))
        watched.clock.seconds = MAX_AGE
        assert await watched.counts(token())
        watched.clock.seconds = MAX_AGE + 1
        for presented in (token(), token(EC, "ES256"), token(kid="unknown")):
            with pytest.raises(KeysUnavailable) as refused:
                await watched.tokens.principal(presented)
            assert (refused.value.status, refused.value.retry_after_seconds) == (503, 1)
            assert watched.tokens.remembered(presented) is None
        assert not await watched.counts(b"no token")
        server.head = b"HTTP/1.1 200 OK\r\n\r\n"
        asked = server.asked
        watched.pass_by(60)
        await server.was_asked(asked + 1)
        await watched.settled()
        assert await watched.counts(token())


async def test_a_process_starts_without_keys_and_gets_them_later(server: KeyServer) -> None:
    server.head = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    async with watching(server.url) as watched:
        with pytest.raises(KeysUnavailable):
            await watched.tokens.principal(token())
        assert server.asked == 1
        server.head = b"HTTP/1.1 200 OK\r\n\r\n"
        watched.pass_by(1)
        await server.was_asked(2)
        await watched.settled()
        assert await watched.counts(token())


async def test_an_address_where_nothing_listens_is_no_fault_of_the_start(server: KeyServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with watching(f"http://127.0.0.1:{port}/keys") as watched:
        with pytest.raises(KeysUnavailable):
            await watched.tokens.principal(token())


def _chunked(content: bytes) -> bytes:
    pieces = [content[place : place + 100] for place in range(0, len(content), 100)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


async def test_a_chunked_answer_is_read(server: KeyServer) -> None:
    server.head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    server.content = _chunked(OURS)
    async with watching(server.url) as watched:
        assert await watched.counts(token())


FAULTY: dict[str, tuple[bytes, bytes]] = {
    "a redirect": (b"HTTP/1.1 302 Found\r\nLocation: CANARY\r\nContent-Length: 0\r\n\r\n", b""),
    "a permanent redirect": (b"HTTP/1.1 308 Permanent Redirect\r\nLocation: CANARY\r\n\r\n", key_set(NEW)),
    "an error with keys": (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", key_set(NEW)),
    "no HTTP": (b"+PONG\r\n", b""),
    "nothing": (b"", b""),
    "HTML": (b"HTTP/1.1 200 OK\r\n\r\n", b"<html>"),
    "a part": (b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", key_set(NEW)[:-20]),
    "a list": (b"HTTP/1.1 200 OK\r\n\r\n", b"[]"),
    "no keys": (b"HTTP/1.1 200 OK\r\n\r\n", b'{"keys": []}'),
    "keys twice": (b"HTTP/1.1 200 OK\r\n\r\n", b'{"keys": [], ' + key_set(NEW)[1:]),
    "keys in an object": (b"HTTP/1.1 200 OK\r\n\r\n", b'{"keys": {}}'),
    "secrets alone": (b"HTTP/1.1 200 OK\r\n\r\n", json.dumps({"keys": [OctKey.generate_key().as_dict()]}).encode()),
    "too many keys": (
        b"HTTP/1.1 200 OK\r\n\r\n",
        json.dumps({"keys": [NEW.as_dict(private=False)] * (KEYS_MAX + 1)}).encode(),
    ),
    "too many bytes": (b"HTTP/1.1 200 OK\r\n\r\n", key_set(NEW) + b" " * BYTES_MAX),
    "a head without end": (b"HTTP/1.1 200 OK\r\nX: " + b"x" * BYTES_MAX, b""),
}


@pytest.mark.parametrize("fault", FAULTY)
async def test_a_faulty_answer_leaves_the_keys_in_place(server: KeyServer, fault: str) -> None:
    async with key_server() as canary, watching(server.url) as watched:
        canary.content = key_set(NEW)
        head, server.content = FAULTY[fault]
        server.head = head.replace(b"CANARY", canary.url.encode())
        assert not await watched.counts(token(NEW))
        assert server.asked == 2
        assert await watched.counts(token())
        assert canary.asked == 0


@pytest.mark.parametrize("endless", [True, False])
async def test_a_slow_answer_is_given_up(
    server: KeyServer,
    endless: bool,  # noqa: FBT001 - a parameter of the test
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with watching(server.url) as watched:
        monkeypatch.setattr(key_sources, "READ_SECONDS", 0.2)
        server.endless = endless
        if not endless:
            server.may_answer.clear()
        async with asyncio.timeout(5):
            assert not await watched.counts(token(kid="unknown"))
        assert await watched.counts(token())


# Where requests go


@pytest.mark.parametrize(
    "addresses",
    [
        ["10.0.0.1"], ["192.168.1.1"], ["172.16.0.1"], ["127.0.0.1"], ["169.254.169.254"], ["0.0.0.0"], ["100.64.0.1"],
        ["224.0.1.1"], ["255.255.255.255"], ["::1"], ["::"], ["fe80::1"], ["fd00::1"], ["::ffff:10.0.0.1"],
        ["64:ff9b::a00:1"], ["2002:a00:1::"], ["ff0e::1"], ["8.8.8.8", "10.0.0.1"],
    ],
    ids="-".join,
)  # fmt: skip
async def test_a_name_that_leads_into_a_private_network_is_not_asked(
    addresses: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    async def found(*_: object, **__: object) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in addresses]

    async def connect(*parameters: object, **_: object) -> None:
        asked.append(parameters)
        raise ConnectionRefusedError

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", found, raising=False)
    monkeypatch.setattr(asyncio, "open_connection", connect)
    source = KeyAddress("https://keys.example/jwks", max_age_seconds=MAX_AGE)
    with pytest.raises(UnusableKeys, match="not public"):
        await source.read()
    assert asked == []
    addresses[:] = ["8.8.8.8", "2606:4700::1111"]
    with pytest.raises(UnusableKeys, match="does not answer"):
        await source.read()
    assert asked == [("8.8.8.8", 443), ("2606:4700::1111", 443)]


async def test_a_loopback_address_leads_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    async def found(*_: object, **__: object) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", 80))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", found, raising=False)
    with pytest.raises(UnusableKeys, match="not public"):
        await KeyAddress("http://localhost/jwks", max_age_seconds=MAX_AGE).read()


async def test_a_certificate_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    async with key_server(ssl=context) as server:
        url = server.url.replace("http://127.0.0.1", "https://localhost")
        for trusted, served in ((stranger, False), (authority, True)):
            trusted.cert_pem.write_to_path(tmp_path / "ca.pem")
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
            async with watching(url) as watched:
                if served:
                    assert await watched.counts(token())
                else:
                    with pytest.raises(KeysUnavailable):
                        await watched.tokens.principal(token())


async def test_no_proxy_is_asked(server: KeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async with key_server() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        async with watching(server.url) as watched:
            assert await watched.counts(token())
        assert (server.asked, proxy.asked) == (1, 0)


# Files


@pytest.fixture
def jwks(tmp_path: Path) -> Path:
    path = tmp_path / "jwks.json"
    path.write_bytes(key_set(RSA))
    return path


def _replaced(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(".new")
    temporary.write_bytes(content)
    if path.is_dir():
        path.rmdir()
    temporary.replace(path)


@pytest.mark.parametrize("change", ["written", "replaced", "linked"])
async def test_a_file_is_read_again_when_it_changes(jwks: Path, tmp_path: Path, change: str) -> None:
    path = jwks
    if change == "linked":  # as Kubernetes mounts secrets
        path = tmp_path / "link"
        path.symlink_to(jwks)
    async with watching(path) as watched:
        assert await watched.counts(token())
        if change == "written":
            path.write_bytes(key_set(NEW))
        elif change == "replaced":
            _replaced(path, key_set(NEW))
        else:
            (tmp_path / "second").write_bytes(key_set(NEW))
            (tmp_path / "other").symlink_to(tmp_path / "second")
            (tmp_path / "other").replace(path)
        assert await watched.counts(token(NEW))
        assert not await watched.counts(token())


async def test_a_file_is_looked_at_each_second(jwks: Path) -> None:
    async with watching(jwks) as watched:
        assert await watched.counts(token())
        _replaced(jwks, key_set(NEW))
        await watched.read_after(1)
        assert not await watched.counts(token())
        assert await watched.counts(token(NEW))


async def test_a_change_within_the_clocks_grain_is_seen(jwks: Path) -> None:
    """Two files of one length, written at one time."""
    source = KeyFile(jwks)
    assert await source.read() == key_set(RSA)
    second = _written_at_the_same_time(jwks, b'"rsa"', b'"xyz"')
    assert await source.read() == second


def _written_at_the_same_time(path: Path, old: bytes, new: bytes) -> bytes:
    state, content = path.stat(), path.read_bytes().replace(old, new)
    path.write_bytes(content)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    return content


async def test_a_file_that_has_not_changed_is_not_read(jwks: Path) -> None:
    os.utime(jwks, (NOW - 10_000_000, 1_000_000_000))
    source = KeyFile(jwks)
    first = await source.read()
    assert await source.read() is first


@pytest.mark.parametrize("fault", ["gone", "half", "empty", "directory", "pipe", "unreadable bytes", "too long"])
async def test_a_faulty_file_leaves_the_keys_in_place(jwks: Path, fault: str) -> None:
    async with watching(jwks, jwt_jwks_max_age_seconds=60) as watched:
        _spoil(jwks, fault)
        assert not await watched.counts(token(NEW))
        assert await watched.counts(token())
        watched.clock.seconds = 61.0
        with pytest.raises(KeysUnavailable):
            await watched.tokens.principal(token())
        _replaced(jwks, key_set(NEW))
        await watched.read_after(1)
        assert await watched.counts(token(NEW))


@pytest.mark.parametrize("fault", ["gone", "half", "empty", "directory", "pipe", "unreadable bytes", "too long"])
async def test_a_faulty_file_ends_a_start(jwks: Path, fault: str) -> None:
    _spoil(jwks, fault)
    watched = Watched(jwks)
    with pytest.raises(UnusableAddress, match=r"^NEXUS_JWT_JWKS (is|has|cannot be read)"):
        await watched.tokens.start()
    await watched.tokens.close()


def _spoil(path: Path, fault: str) -> None:
    whole = key_set(NEW)
    path.unlink()
    if fault == "directory":
        path.mkdir()
    elif fault == "pipe":
        os.mkfifo(path)
    elif fault != "gone":
        contents = {
            "half": whole[: len(whole) // 2],
            "empty": b"",
            "unreadable bytes": b"\xff\xfe",
            "too long": whole + b" " * BYTES_MAX,
        }
        path.write_bytes(contents[fault])
