"""The record: statements that are answered in time, over connections that are kept, ended and replaced."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

import pytest

from nexus_graph.config import Settings
from nexus_graph.errors import Unavailable
from nexus_graph.store.database import Connection, Pool, connect, open_pool
from nexus_graph.store.record import WELL, Record
from tests.stage.graphing import PATIENCE_SECONDS
from tests.stage.stopping import stopped
from tests.stage.wire import wired

BACKEND = "SELECT pg_backend_pid()"
SLEEPERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
CONNECTIONS = 2


@pytest.fixture
def hasty(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """As an operator might set it who has no patience."""
    monkeypatch.setattr("nexus_graph.store.record.HEALTH_SECONDS", 0.5)
    monkeypatch.setattr("nexus_graph.store.database.LOCK_TIMEOUT_SECONDS", 0.3)
    return settings.model_copy(
        update={"identify_timeout_seconds": 1.0, "statement_timeout_seconds": 0.5, "connect_timeout_seconds": 1.0}
    )


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[tuple[Record, Pool]]:
    async with open_pool(settings, role=None, size=CONNECTIONS) as few, asyncio.timeout(PATIENCE_SECONDS):
        record = Record(few, settings)
        yield record, few
        await record.close()


async def _backends(record: Record, *, callers: int = CONNECTIONS) -> set[int]:
    answers = await asyncio.gather(*[record.fetch(BACKEND) for _ in range(callers)])
    return {row[0] for rows in answers for row in rows}


async def _end(pool: Pool, backends: set[int]) -> None:
    await pool.execute("SELECT pg_terminate_backend(pid, 1000) FROM unnest($1::int[]) AS pid", list(backends))


async def _sleeping(pool: Pool, record: Record) -> list["asyncio.Task[object]"]:
    """Statements under way on every connection, once the server has them."""
    asked = [asyncio.create_task(record.fetch("SELECT pg_sleep(60)")) for _ in range(CONNECTIONS)]
    while await pool.fetchval(SLEEPERS) < CONNECTIONS:
        pass
    return [*asked]


async def test_more_callers_than_connections_wait_for_one_another(settings: Settings) -> None:
    async with opened(settings) as (record, _):
        backends = await _backends(record, callers=10 * CONNECTIONS)
        assert len(backends) == CONNECTIONS
        assert await _backends(record) == backends


async def test_who_stops_waiting_for_a_turn_takes_none_along(settings: Settings, pool: Pool) -> None:
    async with opened(settings) as (record, _):
        asked = await _sleeping(pool, record)
        waiting = [asyncio.create_task(record.fetch(BACKEND)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        for one in asked:
            one.cancel()
        await asyncio.wait(asked)
        assert len(await asyncio.gather(*waiting[1:])) == 2
        assert len(await _backends(record)) == CONNECTIONS


async def test_a_lost_connection_is_replaced_before_it_is_used_again(settings: Settings, pool: Pool) -> None:
    async with opened(settings) as (record, _):
        lost = await _backends(record)
        await _end(pool, lost)
        assert not lost & await _backends(record)


async def test_a_statement_whose_connection_is_lost_is_sent_once_more(settings: Settings, pool: Pool) -> None:
    async with opened(settings) as (record, _):
        lost = await _backends(record)
        asked = await _sleeping(pool, record)
        await _end(pool, lost)
        while await pool.fetchval(SLEEPERS) < CONNECTIONS:
            pass
        lost_again = {
            row["pid"] for row in await pool.fetch("SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
        }
        assert not lost & lost_again
        await _end(pool, lost_again)
        errors = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(error) for error in errors] == [Unavailable] * CONNECTIONS
        assert len(await _backends(record) - lost - lost_again) == CONNECTIONS


async def test_a_failed_statement_costs_no_connection(settings: Settings) -> None:
    async with opened(settings) as (record, _):
        backends = await _backends(record)
        for _ in range(2 * CONNECTIONS):
            with pytest.raises(Exception, match="division by zero"):
                await record.fetch("SELECT 1 / 0")
        assert await _backends(record) == backends


async def test_what_was_kept_is_given_back(settings: Settings) -> None:
    async with opened(settings) as (record, few):
        await _backends(record)
        assert few.get_idle_size() == 0
        await record.close()
        assert few.get_idle_size() == CONNECTIONS


async def test_a_server_that_says_nothing_is_asked_once_and_replaced(hasty: Settings, pool: Pool) -> None:
    """Its processes are stopped: they confirm no cancellation. The next statement has connections of its own."""
    async with opened(hasty) as (record, few):
        hung = await _backends(record)
        with stopped(hung):
            began = monotonic()
            for _ in range(CONNECTIONS):
                with pytest.raises(Unavailable):
                    await record.fetch(BACKEND)
            # Each was given up at its own time, and was not sent again.
            assert monotonic() - began >= CONNECTIONS * hasty.identify_timeout_seconds
            assert not hung & await _backends(record)
        assert few.get_size() == CONNECTIONS


async def test_a_black_hole_is_left_in_time_and_all_is_well_after_it(hasty: Settings) -> None:
    async with wired(hasty) as (through, wire), opened(through) as (record, few):
        await _backends(record)
        wire.hang()
        answers = await asyncio.gather(*[record.fetch(BACKEND) for _ in range(5 * CONNECTIONS)], return_exceptions=True)
        assert {type(answer) for answer in answers} == {Unavailable}
        assert (await record.condition()).status == "down"
        wire.flow()
        while (await record.condition()) is not WELL:
            pass
        assert len(await _backends(record)) == CONNECTIONS
        assert few.get_size() == CONNECTIONS
        await wire.open_connections(CONNECTIONS)  # those that hung are closed: nothing leaks


async def test_hung_connections_are_told_in_time(hasty: Settings) -> None:
    async with opened(hasty) as (record, _):
        assert await record.condition() is WELL
        with stopped(await _backends(record)):
            assert await record.condition() == ("down", "does not answer in time")


async def test_waiting_for_a_lock_is_not_hanging(hasty: Settings, pool: Pool) -> None:
    patient = hasty.model_copy(update={"statement_timeout_seconds": 30, "identify_timeout_seconds": 60})
    async with open_pool(patient, role=None, size=CONNECTIONS) as few:
        record = Record(few, patient, patience_seconds=PATIENCE_SECONDS)
        asked = await _sleeping(pool, record)
        assert await record.condition() is WELL
        for one in asked:
            one.cancel()
        await asyncio.wait(asked)
        await record.close()


async def test_a_read_only_record_is_told_and_left_by_its_connections(settings: Settings, pool: Pool) -> None:
    """Connections that lead to a server without writes are given up, so that the next find the new primary."""
    async with opened(settings) as (record, _):
        before = await _backends(record)
        await _set_read_only(pool, "on")
        await pool.execute("CREATE TABLE written (n int)")
        assert await record.condition() is WELL  # these sessions began before
        await _end(pool, before)
        assert await record.condition() == ("down", "is read-only")
        with pytest.raises(Unavailable):
            await record.fetch("INSERT INTO written VALUES (1)")
        assert await record.fetch("SELECT count(*) FROM written")
        await _set_read_only(pool, "off")
        while await record.condition() is not WELL:
            pass
        await record.fetch("INSERT INTO written VALUES (1)")


async def _set_read_only(pool: Pool, on_or_off: str) -> None:
    """For sessions that begin from now on."""
    database = await pool.fetchval("SELECT current_database()")
    await pool.execute(f'ALTER DATABASE "{database}" SET default_transaction_read_only = {on_or_off}')


async def test_a_statement_that_failed_for_the_server_speaks_against_it(settings: Settings, pool: Pool) -> None:
    async with opened(settings) as (record, _):
        await pool.execute("CREATE TABLE gone (n int)")
        await record.fetch("SELECT * FROM gone")
        await pool.execute("DROP TABLE gone")
        with pytest.raises(Unavailable):
            await record.fetch("SELECT * FROM gone")
        assert (
            await record.condition()
        ).reason == "lacks a table that we need; `nexus-graph migrate` makes them (42P01)"
        await pool.execute("CREATE TABLE gone (n int)")
        await record.fetch("SELECT * FROM gone")
        assert await record.condition() is WELL


async def test_dead_hosts_are_noticed_at_both_ends(settings: Settings) -> None:
    connection: Connection = await connect(settings)
    opened_socket = connection._transport.get_extra_info("socket")  # type: ignore[attr-defined]
    assert opened_socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert opened_socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 10
    assert opened_socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 20_000
    await connection.close()
    async with opened(settings) as (record, _):
        told = {
            name: (await record.fetch("SELECT current_setting($1)", name))[0][0]
            for name in ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "tcp_user_timeout")
        }
    assert [*told.values()] in (["10", "5", "3", "20s"], ["10", "5", "3", "20000"])  # with the unit, or without
