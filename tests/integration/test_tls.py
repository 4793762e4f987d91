"""TLS: the API's own, whose certificate is renewed while it serves, and that of the servers behind it."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr
from websockets.asyncio.client import connect

from nexus_graph.api.http import connections, tls
from nexus_graph.api.http.tls import Certificate, UnusableCertificate
from nexus_graph.cache.shared import open_redis
from nexus_graph.config import Settings
from nexus_graph.errors import Unavailable
from nexus_graph.graph.driver import open_driver
from nexus_graph.store.database import connect as connect_record
from nexus_graph.store.database import open_pool
from tests.stage.certificates import Authority, encrypted
from tests.stage.running import ApiServer, ServeProcess, both_ways, running_api, stoppable_api

ADA = {"email": "ada@example.com", "phoneNumber": "123456"}
REQUEST = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    authority = Authority(tmp_path)
    authority.write("localhost", "127.0.0.1")
    return authority


@pytest.fixture
def secured(settings: Settings, authority: Authority) -> Settings:
    return settings.model_copy(update={"tls_cert": authority.certificate, "tls_key": authority.key})


@pytest.fixture
async def server(secured: Settings) -> AsyncIterator[ApiServer]:
    async with running_api(secured) as server:
        yield server


def client_of(server: ApiServer, authority: Authority) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=f"https://localhost:{server.port}", verify=authority.trusting(), timeout=20)


async def opened(server: ApiServer, context: ssl.SSLContext) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", server.port, ssl=context, server_hostname="localhost")


def serial(writer: asyncio.StreamWriter) -> str:
    """The serial number of the certificate that a connection began with."""
    found: str = writer.get_extra_info("peercert")["serialNumber"]
    return found


async def livez(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Ask on an open connection."""
    writer.write(REQUEST)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert await reader.readexactly(len(b'{"status":"ok"}')) == b'{"status":"ok"}'


@both_ways
async def test_every_transport_is_encrypted(server: ApiServer, authority: Authority) -> None:
    async with client_of(server, authority) as client:
        identified = await client.post("/identify", json=ADA)
        told = await client.get("/livez")
        by_graphql = await client.post("/graphql", json={"query": "{ __typename }"})
    assert [answer.status_code for answer in (identified, told, by_graphql)] == [200, 200, 200]
    for answer in (identified, told, by_graphql):
        assert answer.headers["strict-transport-security"] == "max-age=31536000"
    url = f"wss://localhost:{server.port}/graphql"
    async with connect(url, subprotocols=["graphql-transport-ws"], ssl=authority.trusting()) as socket:  # type: ignore[list-item]
        await socket.send('{"type": "connection_init"}')
        assert json.loads(await socket.recv())["type"] == "connection_ack"


async def test_plain_http_asks_for_no_https(settings: Settings) -> None:
    async with running_api(settings) as server, httpx2.AsyncClient(base_url=server.url) as client:
        assert "strict-transport-security" not in (await client.get("/livez")).headers


async def test_browsers_are_asked_for_https_as_long_as_the_setting_says(
    secured: Settings, authority: Authority
) -> None:
    for seconds, header in ((60, "max-age=60"), (0, None)):
        given = secured.model_copy(update={"hsts_seconds": seconds})
        async with running_api(given) as server, client_of(server, authority) as client:
            assert (await client.get("/livez")).headers.get("strict-transport-security") == header


async def test_old_protocols_and_plain_requests_are_refused(server: ApiServer, authority: Authority) -> None:
    failed = REGISTRY.get_sample_value("nexus_tls_handshakes_failed_total") or 0
    context = authority.trusting()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-GCM-SHA256")  # without forward secrecy
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await opened(server, context)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(REQUEST)
    assert await reader.read() == b""
    writer.close()
    assert (REGISTRY.get_sample_value("nexus_tls_handshakes_failed_total") or 0) == failed + 2
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = authority.trusting()
        context.minimum_version = context.maximum_version = version
        context.set_alpn_protocols(["h2", "http/1.1"])
        reader, writer = await opened(server, context)
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        await livez(reader, writer)
        writer.close()


async def test_a_last_answer_ends_the_connection_at_once(server: ApiServer, authority: Authority) -> None:
    reader, writer = await opened(server, authority.trusting())
    writer.write(REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    async with asyncio.timeout(10):
        assert (await reader.read()).endswith(b'{"status":"ok"}')
    writer.close()


async def test_a_handshake_that_hangs_is_ended_and_keeps_no_server_from_stopping(
    secured: Settings, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "FIRST_BYTE_SECONDS", 0.2)
    async with running_api(secured) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        writer.close()
    monkeypatch.setattr(connections, "FIRST_BYTE_SECONDS", 600.0)
    async with stoppable_api(secured) as (server, running):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        kept, kept_writer = await opened(server, authority.trusting())  # accepted after the other
        async with asyncio.timeout(30):
            await running.stop()
            assert await reader.read() == b""
            assert await kept.read() == b""
        writer.close()
        kept_writer.close()


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "LOOK_SECONDS", 0.02)


@pytest.mark.usefixtures("quick_looks")
async def test_a_renewed_certificate_counts_without_an_error_under_load(
    server: ApiServer, authority: Authority, capfd: pytest.CaptureFixture[str]
) -> None:
    kept = [await opened(server, authority.trusting()) for _ in range(4)]
    first = {serial(writer) for _, writer in kept}
    assert len(first) == 1
    extra = await opened(server, authority.trusting())
    seen: set[str] = set()
    done = asyncio.Event()

    async def keep_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        count = 0
        while not done.is_set():
            await livez(reader, writer)
            count += 1
        return count

    async def begin_anew() -> int:
        count = 0
        while not done.is_set():
            reader, writer = await opened(server, authority.trusting())
            seen.add(serial(writer))
            await livez(reader, writer)
            writer.close()
            count += 1
        return count

    async with asyncio.TaskGroup() as load:
        asking = [load.create_task(keep_on(*each)) for each in kept]
        asking += [load.create_task(begin_anew()) for _ in range(4)]
        for renewed in range(2, 5):
            certificate, key = authority.issue("localhost", "127.0.0.1")
            authority.certificate.write_bytes(certificate)
            await asyncio.sleep(0.1)  # for several looks the key is another certificate's
            assert len(seen) == renewed - 1
            authority.key.write_bytes(key)
            async with asyncio.timeout(30):
                while len(seen) < renewed:
                    await livez(*extra)
        done.set()
    assert all(task.result() > 0 for task in asking)
    assert first < seen
    told = capfd.readouterr().err
    assert told.count("certificate_read_again") == 3
    assert "certificate_not_read" in told
    assert "PRIVATE" not in told
    for _, writer in (*kept, extra):
        writer.close()


@pytest.mark.usefixtures("quick_looks")
async def test_a_certificate_that_goes_leaves_the_last_one(server: ApiServer, authority: Authority) -> None:
    authority.certificate.unlink()
    authority.key.write_bytes(b"")
    await asyncio.sleep(0.1)
    reader, writer = await opened(server, authority.trusting())
    await livez(reader, writer)
    writer.close()


async def test_workers_serve_it_and_renew_it(settings: Settings, authority: Authority, project: Path) -> None:
    files = ("--tls-cert", str(authority.certificate), "--tls-key", str(authority.key))
    serving = await ServeProcess.start(settings, project, *files, "--workers", "2")
    try:
        event = await serving.event("serving")
        assert event["tls"] is True
        await serving.event("serving")
        server = ApiServer(event["host"], event["port"])
        _, writer = await opened(server, authority.trusting())
        first = serial(writer)
        writer.close()
        authority.write("localhost", "127.0.0.1")
        for _ in range(2):
            await serving.event("certificate_read_again")
        reader, writer = await opened(server, authority.trusting())
        assert serial(writer) != first
        await livez(reader, writer)
        writer.close()
    finally:
        serving.process.terminate()
        assert await serving.process.wait() == 0


@pytest.mark.parametrize("fault", ["absent", "no PEM", "another's key", "a passphrase"])
async def test_a_start_with_an_unusable_certificate_says_why(authority: Authority, fault: str) -> None:
    if fault == "absent":
        authority.key.unlink()
    elif fault == "no PEM":
        authority.certificate.write_bytes(b"no certificate")
    elif fault == "another's key":
        authority.key.write_bytes(authority.issue("localhost")[1])
    else:
        from cryptography.hazmat.primitives import serialization

        key: Any = serialization.load_pem_private_key(authority.key.read_bytes(), None)
        authority.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"passphrase"),
            )
        )
    with pytest.raises(UnusableCertificate, match="NEXUS_TLS_KEY"):
        Certificate(authority.certificate, authority.key)


NAMES = [("localhost", True), ("elsewhere.example", False)]
"""Names of a server's certificate, and whether it is the server that we asked for."""


@pytest.mark.parametrize(("name", "is_right"), NAMES)
async def test_postgresql_is_asked_by_tls_and_checked(
    settings: Settings, authority: Authority, name: str, *, is_right: bool
) -> None:
    url = settings.database_url.get_secret_value()
    async with encrypted(url, authority, name) as port:
        login, path = url.rpartition("@")[0], url.rpartition("/")[2]
        for root, trusted in ((authority.file, is_right), (other_authority(authority), False)):
            given = f"{login}@localhost:{port}/{path}?sslmode=verify-full&sslrootcert={root}"
            asked = settings.model_copy(update={"database_url": SecretStr(given)})
            if trusted:
                async with open_pool(asked, role="nexus_api", size=1) as pool:
                    assert await pool.fetchval("SELECT 1") == 1
            else:
                with pytest.raises(Unavailable, match="SSLCertVerificationError"):
                    await connect_record(asked)


@pytest.mark.parametrize(("name", "is_right"), NAMES)
async def test_redis_is_asked_by_tls_and_checked(
    settings: Settings, authority: Authority, name: str, *, is_right: bool
) -> None:
    url = settings.redis_url.get_secret_value()
    async with encrypted(url, authority, name) as port:
        login = url.rpartition("@")[0].replace("redis:", "rediss:")
        for root, trusted in ((authority.file, is_right), (other_authority(authority), False)):
            given = SecretStr(f"{login}@localhost:{port}/0?ssl_ca_certs={root}")
            Settings(redis_url=given)  # the options are known
            client = open_redis(settings.model_copy(update={"redis_url": given}), timeout_seconds=5)
            try:
                if trusted:
                    assert await client.ping()
                else:
                    with pytest.raises(Exception, match="certificate verify failed"):
                        await client.ping()
            finally:
                await client.aclose()


@pytest.mark.parametrize(("name", "is_right"), NAMES)
async def test_neo4j_is_asked_by_tls_and_checked(
    settings: Settings, authority: Authority, monkeypatch: pytest.MonkeyPatch, name: str, *, is_right: bool
) -> None:
    async with encrypted(settings.neo4j_uri, authority, name) as port:
        for root, trusted in ((authority.file, is_right), (other_authority(authority), False)):
            monkeypatch.setenv("SSL_CERT_FILE", str(root))
            driver = open_driver(settings.model_copy(update={"neo4j_uri": f"bolt+s://localhost:{port}"}))
            try:
                if trusted:
                    assert (await driver.execute_query("RETURN 1")).records[0].value() == 1
                else:
                    with pytest.raises(Exception, match=r"certificate verify failed|[Ee]ncrypt"):
                        await driver.verify_connectivity()
            finally:
                await driver.close()


def other_authority(authority: Authority) -> Path:
    """The certificate of an authority that has issued nothing here."""
    folder = authority.file.parent / "other"
    folder.mkdir(exist_ok=True)
    return Authority(folder).file
