"""An issuer of tokens: real keys, real signatures, tokens that no honest issuer would sign, and a server of keys."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry
from joserfc.util import urlsafe_b64encode

ISSUER: Final = "https://issuer.example"
AUDIENCE: Final = "nexus"
NOW: Final = 1_800_000_000

RSA: Final = RSAKey.generate_key(2048, {"kid": "rsa"})
EC: Final = ECKey.generate_key("P-256", {"kid": "ec"})
ED: Final = OKPKey.generate_key("Ed25519", {"kid": "ed"})
OTHER_RSA: Final = RSAKey.generate_key(2048, {"kid": "rsa"})
"""A key of somebody else, who calls it by our key's name."""

AnyKey = RSAKey | ECKey | OKPKey | OctKey


def key_set(*keys: AnyKey, **more: Any) -> bytes:
    """The public parts, as a JWK set; `more` are members of each."""
    return json.dumps({"keys": [{**key.as_dict(private=False), **more} for key in keys]}).encode()


OURS: Final = key_set(RSA, EC, ED)


def claims(**changed: Any) -> dict[str, Any]:
    """Good claims at NOW, but for the changes; None takes a claim away."""
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "exp": NOW + 600, "iat": NOW, "roles": ["steward"]}
    return {name: value for name, value in {**good, **changed}.items() if value is not None}


def signed(header: Mapping[str, Any] | bytes, payload: Mapping[str, Any] | bytes, key: AnyKey, algorithm: str) -> bytes:
    """A token over any bytes, with a true signature."""
    content = unsigned(header, payload)
    return content + b"." + urlsafe_b64encode(JWSRegistry.algorithms[algorithm].sign(content, key))


def unsigned(header: Mapping[str, Any] | bytes, payload: Mapping[str, Any] | bytes) -> bytes:
    """What a signature signs."""
    return b".".join(
        urlsafe_b64encode(part if isinstance(part, bytes) else json.dumps(part).encode()) for part in (header, payload)
    )


def token(key: AnyKey = RSA, algorithm: str = "RS256", *, kid: str | None = "", **changed: Any) -> bytes:
    """A good token, but for the changed claims. `kid` is that of the key unless it is given; None: no name."""
    header = {"alg": algorithm, "typ": "JWT", "kid": key.kid if kid == "" else kid}
    return signed(
        {name: value for name, value in header.items() if value is not None}, claims(**changed), key, algorithm
    )


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        return self.seconds


class KeyServer:
    """Serves a JWK set over HTTP, and counts who asks."""

    def __init__(self) -> None:
        self.content = OURS
        self.head = b"HTTP/1.1 200 OK\r\nContent-Type: application/jwk-set+json\r\nConnection: close\r\n\r\n"
        self.asked = 0
        self.requests: list[bytes] = []
        self.may_answer = asyncio.Event()
        """While it is clear, who asks has no answer."""
        self.may_answer.set()
        self.endless = False
        """After its head, a byte now and then for ever."""
        self.url = ""
        self._changed = asyncio.Condition()

    async def was_asked(self, times: int) -> None:
        """Return once it was asked so often."""
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(lambda: self.asked >= times)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            async with self._changed:
                self.asked += 1
                self._changed.notify_all()
            await self.may_answer.wait()
            writer.write(self.head)
            while self.endless:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.005)
            writer.write(self.content)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def key_server(**options: Any) -> AsyncIterator[KeyServer]:
    """A server on a free port of the loopback address; `options` are those of `asyncio.start_server`."""
    server = KeyServer()
    async with await asyncio.start_server(server._answer, "127.0.0.1", 0, **options) as listening:
        host, port = listening.sockets[0].getsockname()
        server.url = f"http://{host}:{port}/keys"
        yield server
        server.may_answer.set()
        server.endless = False
