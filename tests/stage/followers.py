"""Followers of a long feed in one process: `python -m tests.stage.followers HOST PORT CARRIER READING STUCK`.

The carrier is `websocket` or `sse`. Readers drop what they receive; stuck followers never read. The process prints a
line once all have subscribed, and the number of received bytes once its input ends. Standard library only, so that it
costs the machine little.
"""

import json
import selectors
import socket
import struct
import sys

EVENTS = "subscription { identityEvents(after: 0) { sequence kind contactId at } }"
CARRIERS = ("websocket", "sse")
_CHUNK_BYTES = 256 * 1024


def _frame(message: object) -> bytes:
    """A masked text frame; the mask of zeros changes nothing."""
    payload = json.dumps(message).encode()
    return struct.pack("!BBH", 0x81, 0x80 | 126, len(payload)) + bytes(4) + payload


def follower(
    host: str, port: int, carrier: str, query: str = EVENTS, *, receive_bytes: int | None = None
) -> socket.socket:
    """A socket that has subscribed to all events from the first. `receive_bytes`: how much its kernel takes for it."""
    client = socket.socket()
    if receive_bytes is not None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    client.connect((host, port))
    if carrier == "sse":
        body = json.dumps({"query": query})
        client.sendall(
            f"POST /graphql HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
            f"Accept: text/event-stream\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        _hear_head(client)
        return client
    client.sendall(
        f"GET /graphql HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n".encode()
    )
    _hear_head(client)
    client.sendall(_frame({"type": "connection_init"}))
    client.sendall(_frame({"type": "subscribe", "id": "1", "payload": {"query": query}}))
    return client


def _hear_head(client: socket.socket) -> None:
    heard = b""
    while not heard.endswith(b"\r\n\r\n"):
        byte = client.recv(1)
        if not byte:
            raise ConnectionError("the connection ended before its answer began")
        heard += byte


def main(host: str, port: str, carrier: str, reading: str, stuck: str) -> None:
    """Follow until standard input ends."""
    readers = [follower(host, int(port), carrier) for _ in range(int(reading))]
    others = [follower(host, int(port), carrier) for _ in range(int(stuck))]
    print("subscribed", flush=True)
    count = 0
    with selectors.DefaultSelector() as waiting:
        waiting.register(sys.stdin, selectors.EVENT_READ)
        for reader in readers:
            waiting.register(reader, selectors.EVENT_READ, reader)
        while True:
            for key, _ in waiting.select():
                reader = key.data
                if reader is None:  # standard input has ended
                    print(count, flush=True)
                    for one in others:
                        one.close()
                    return
                found = len(reader.recv(_CHUNK_BYTES))
                count += found
                if not found:
                    waiting.unregister(reader)


if __name__ == "__main__":
    main(*sys.argv[1:])
