"""An answer's head and body leave together, and nothing is lost or late."""

import asyncio
from typing import cast

from nexus_graph.api.http.protocol import JoiningTransport

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"


class Wire(asyncio.Transport):
    """Keeps what was written, write by write."""

    def __init__(self) -> None:
        super().__init__({"peername": ("198.51.100.7", 1)})
        self.writes: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))

    def close(self) -> None:
        self.writes.append(b"closed")


def joining() -> tuple[Wire, JoiningTransport]:
    wire = Wire()
    return wire, JoiningTransport(wire, asyncio.get_running_loop(), lambda ended: ended.close())


async def test_head_and_body_are_one_write() -> None:
    wire, transport = joining()
    for _ in range(2):
        transport.write(HEAD)
        transport.write(b"{}")
    await asyncio.sleep(0)
    assert wire.writes == [HEAD + b"{}"] * 2


async def test_a_head_alone_waits_for_no_more_than_a_turn() -> None:
    wire, transport = joining()
    transport.write(HEAD)
    assert wire.writes == []
    await asyncio.sleep(0)
    assert wire.writes == [HEAD]
    transport.write(b"data: 1\n\n")
    transport.write(b"data: 2\n\n")
    assert wire.writes == [HEAD, b"data: 1\n\n", b"data: 2\n\n"]


async def test_what_was_written_goes_out_before_the_end() -> None:
    wire, transport = joining()
    transport.write(HEAD)
    transport.close()
    await asyncio.sleep(0)
    transport.write(b"late")
    transport.close()
    assert wire.writes == [HEAD, b"closed"], "once, and nothing after it"
    assert transport.is_closing()


async def test_all_else_is_the_transports_own() -> None:
    _, transport = joining()
    assert cast("asyncio.Transport", transport).get_extra_info("peername") == ("198.51.100.7", 1)
