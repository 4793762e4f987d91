"""API keys on a real record: made and ended by the command, known to every process within a second, and never let in
once nobody can tell.
"""

import asyncio
import json
import os
import re
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr

from nexus_graph.config import Settings
from nexus_graph.door import issuing, keys
from nexus_graph.door.issuing import KeyRefused, Made, create, revoke, rotate
from nexus_graph.door.keys import ApiKeys, Check, key_text
from nexus_graph.door.permissions import Role
from nexus_graph.errors import KeysUnavailable, Unauthenticated, Unavailable
from nexus_graph.statements import sql
from nexus_graph.store.database import Connection, Pool, connect_pool
from tests.stage.graphing import PATIENCE_SECONDS
from tests.stage.stopping import backends, stopped
from tests.stage.wire import wired

EFFECTIVE = timedelta(seconds=1)
"""A change works in every process after so long."""
DAY = timedelta(days=1)


class Door:
    """A process's keys, and why it refused bearers of one."""

    def __init__(self, settings: Settings) -> None:
        self.refusals: list[tuple[Check, str | None]] = []
        self.keys = ApiKeys(settings, on_refused=lambda *refusal: self.refusals.append(refusal))

    def says(self, text: str) -> Check:
        """What comes of presenting the key."""
        try:
            self.keys.principal(text.encode())
        except (Unauthenticated, KeysUnavailable):
            return self.refusals[-1][0]
        return Check.LIVE

    async def until(self, text: str, *wanted: Check) -> list[Check]:
        """Each change of what it says, up to one of those that are wanted."""
        said = [self.says(text)]
        async with asyncio.timeout(PATIENCE_SECONDS):
            while said[-1] not in wanted:
                await asyncio.sleep(0.005)
                if (now := self.says(text)) is not said[-1]:
                    said.append(now)
        return said


async def until(done: Callable[[], bool]) -> None:
    """Return once it is so."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not done():  # noqa: ASYNC110 - tasks of the product change it
            await asyncio.sleep(0.005)


@asynccontextmanager
async def door(settings: Settings) -> AsyncIterator[Door]:
    opened = Door(settings)
    await opened.keys.start()
    try:
        yield opened
    finally:
        await opened.keys.close()


async def command(settings: Settings, *arguments: str, code: int = 0) -> tuple[str, str]:
    """What `nexus-graph keys` wrote to stdout and stderr."""
    environment = os.environ | {"DATABASE_URL": settings.database_url.get_secret_value()}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "nexus_graph", "keys", *arguments, env=environment, stdout=PIPE, stderr=PIPE
    )
    written, told = await process.communicate()
    assert process.returncode == code, told.decode()
    return written.decode(), told.decode()


async def as_json(settings: Settings, *arguments: str) -> Any:
    written, told = await command(settings, *arguments, "--json")
    assert told == ""
    return json.loads(written)


async def service_key(owner: Connection, lasts_seconds: float | None = None) -> Made:
    return await create(owner, "shop", [Role.SERVICE], lasts_seconds)


async def age(owner: Connection, key_id: str) -> timedelta:
    """Since the revocation, by the record's clock."""
    found: timedelta = await owner.fetchval("SELECT clock_timestamp() - revoked_at FROM api_keys WHERE id = $1", key_id)
    return found


async def test_from_the_command_to_the_first_call_and_the_last(settings: Settings) -> None:
    async with door(settings) as opened:
        written, told = await command(settings, "create", "--name", "shop", "--role", "service")
        text = written.removesuffix("\n")
        assert re.fullmatch(r"nxk_[0-9a-f]{12}_[0-9a-f]{72}", text)
        assert text[17:] not in told
        await opened.until(text, Check.LIVE)
        made = await as_json(
            settings, "create", "--name", "shop 2", "--role", "steward", "--role", "reader", "--expires", "90d"
        )
        assert made == {"id": made["key"][4:16], "name": "shop 2", "roles": ["reader", "steward"], "key": made["key"]}
        await opened.until(made["key"], Check.LIVE)
        holder = opened.keys.principal(made["key"].encode())
        assert (holder.name, holder.roles) == (f"key:{made['id']}", frozenset({Role.READER, Role.STEWARD}))
        assert holder.expires_at is not None
        ends_at = datetime.fromtimestamp(holder.expires_at, UTC)
        assert abs(ends_at - datetime.now(UTC) - 90 * DAY) < DAY

        first, second = await as_json(settings, "list")
        assert (first["id"], first["name"], first["roles"]) == (text[4:16], "shop", ["service"])
        assert (first["works"], first["expires_at"], first["revoked_at"]) == (True, None, None)
        assert (second["works"], second["expires_at"]) == (True, ends_at.isoformat())
        written, _ = await command(settings, "list")
        assert [line.split()[0] for line in written.splitlines()] == ["id", first["id"], second["id"]]
        assert text[17:81] not in written

        revoked = await as_json(settings, "revoke", first["id"])
        assert await opened.until(text, Check.REVOKED) in ([Check.REVOKED], [Check.LIVE, Check.REVOKED])
        assert await as_json(settings, "revoke", first["id"]) == revoked
        assert opened.refusals[-1] == (Check.REVOKED, first["id"])
        assert not opened.keys.is_live(holder.__class__(f"key:{first['id']}", holder.roles))
        written, _ = await command(settings, "list")
        assert "revoked" in written.splitlines()[1]


async def test_after_a_rotation_both_keys_work_for_the_overlap(settings: Settings, owner: Connection) -> None:
    former = await create(owner, "shop", [Role.SERVICE, Role.READER], 30 * 86_400)
    made = await as_json(settings, "rotate", former.key.id)
    assert (made["name"], made["roles"], made["replaces"]) == ("shop", ["reader", "service"], former.key.id)
    was, now = await as_json(settings, "list")
    assert was["successor_id"] == now["id"] == made["id"]
    begun = datetime.fromisoformat(now["created_at"])
    assert datetime.fromisoformat(was["expires_at"]) == datetime.fromisoformat(made["replaced_works_until"])
    assert datetime.fromisoformat(was["expires_at"]) == begun + DAY
    assert datetime.fromisoformat(now["expires_at"]) == begun + 30 * DAY
    async with door(settings) as opened:
        assert opened.says(former.text) is opened.says(made["key"]) is Check.LIVE
        _, told = await command(settings, "rotate", former.key.id, code=1)
        assert made["id"] in told
        third = await as_json(settings, "rotate", made["id"], "--overlap", "0s", "--expires", "2h")
        await opened.until(made["key"], Check.EXPIRED)
        await opened.until(third["key"], Check.LIVE)
        assert opened.says(former.text) is Check.LIVE


async def test_an_overlap_never_makes_a_key_last_longer(settings: Settings, owner: Connection) -> None:
    made = await service_key(owner, 3_600)
    former, successor = await rotate(owner, made.key.id, overlap_seconds=86_400)
    assert former.expires_at == made.key.expires_at
    assert successor.key.expires_at is not None
    assert successor.key.expires_at - successor.key.created_at == timedelta(hours=1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("create", "--name", "shop"), "--role"),
        (("create", "--name", "a@b", "--role", "service"), "--name"),
        (("create", "--name", "shop", "--role", "root"), "root"),
        (("create", "--name", "shop", "--role", "service", "--expires", "90"), "90d"),
        (("create", "--name", "shop", "--role", "service", "--expires", "0s"), "1s"),
        (("rotate", "0123456789ab", "--overlap", "1w"), "24h"),
    ],
)
async def test_what_the_command_cannot_read_makes_no_key(
    settings: Settings, pool: Pool, arguments: tuple[str, ...], said: str
) -> None:
    _, told = await command(settings, *arguments, code=2)
    assert said in told
    assert await pool.fetchval("SELECT count(*) FROM api_keys") == 0


@pytest.mark.parametrize("verb", ["revoke", "rotate"])
async def test_a_key_that_is_given_for_an_id_is_not_repeated(settings: Settings, owner: Connection, verb: str) -> None:
    made = await service_key(owner)
    written, told = await command(settings, verb, made.text, code=1)
    assert written == ""
    assert "no key has this id" in told
    assert made.text[17:81] not in told


async def test_the_command_says_why_it_cannot_go_on(settings: Settings, tmp_path: Path) -> None:
    away = settings.model_copy(update={"database_url": SecretStr("postgresql://postgres@127.0.0.1:1/nexus")})
    _, told = await command(away, "list", code=1)
    assert told == "nexus-graph: PostgreSQL at 127.0.0.1:1/nexus (DATABASE_URL) does not answer (Connection refused)\n"
    nowhere = settings.model_copy(update={"database_url": SecretStr("")})
    _, told = await command(nowhere, "list", "--data-dir", str(tmp_path), code=2)
    assert "no stack runs in" in told


@pytest.mark.parametrize("notices", [True, False], ids=["by notice", "by poll"])
async def test_a_revocation_works_in_every_process_within_a_second(
    settings: Settings, owner: Connection, *, notices: bool
) -> None:
    if not notices:
        body = await owner.fetchval("SELECT pg_get_functiondef('note_change_of_keys'::regproc)")
        await owner.execute(body.replace("NOTIFY api_keys;", ""))
    made = await service_key(owner)
    without_redis = settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")})
    async with door(without_redis) as one, door(without_redis) as other:
        holder = one.keys.principal(made.text.encode())
        assert other.says(made.text) is Check.LIVE

        await revoke(owner, made.key.id)
        for by in (one, other):
            assert await by.until(made.text, Check.REVOKED) in ([Check.LIVE, Check.REVOKED], [Check.REVOKED])
        assert await age(owner, made.key.id) < EFFECTIVE
        assert not one.keys.is_live(holder)


async def test_a_change_by_plain_sql_works_as_well(settings: Settings, owner: Connection) -> None:
    ended, gone, lesser = [await service_key(owner) for _ in range(3)]
    async with door(settings) as opened:
        holder = opened.keys.principal(lesser.text.encode())
        await owner.execute("UPDATE api_keys SET revoked_at = now() WHERE id = $1", ended.key.id)
        await opened.until(ended.text, Check.REVOKED)
        await owner.execute("DELETE FROM api_keys WHERE id = $1", gone.key.id)
        await opened.until(gone.text, Check.UNKNOWN)
        await owner.execute("UPDATE api_keys SET roles = ARRAY['reader'] WHERE id = $1", lesser.key.id)
        await until(lambda: opened.keys.principal(lesser.text.encode()).roles == {Role.READER})
        assert not opened.keys.is_live(holder)
        await owner.execute("TRUNCATE api_keys")
        await opened.until(lesser.text, Check.UNKNOWN)


async def test_a_change_that_commits_late_is_not_missed(settings: Settings, pool: Pool, owner: Connection) -> None:
    """A version that became visible before its change would be read without the change, and never again."""
    slow, quick = await service_key(owner), await service_key(owner)
    async with door(settings) as opened, pool.acquire() as another:
        async with owner.transaction():
            await owner.execute("UPDATE api_keys SET revoked_at = now() WHERE id = $1", slow.key.id)
            following = asyncio.create_task(revoke(another, quick.key.id))  # type: ignore[arg-type]
            version = opened.keys._version
            looked = opened.keys._good_until
            await until(lambda: opened.keys._good_until > looked + 2 * keys._POLL_SECONDS)
            assert opened.keys._version == version
            assert not following.done()
            assert opened.says(slow.text) is opened.says(quick.text) is Check.LIVE
        await following
        await opened.until(slow.text, Check.REVOKED)
        await opened.until(quick.text, Check.REVOKED)


@pytest.mark.parametrize("trouble", ["cut", "hang", "stop"])
async def test_while_the_record_is_away_keys_work_for_a_while_and_then_nobody_comes_in(
    settings: Settings, owner: Connection, pool: Pool, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    monkeypatch.setattr(keys, "KEPT_SECONDS", 2.0)
    monkeypatch.setattr(keys, "_LOOK_SECONDS", 0.5)
    made = await service_key(owner)
    async with wired(settings.model_copy(update={"connect_timeout_seconds": 1.0})) as (far, wire), door(far) as opened:
        if trouble == "stop":
            (process,) = await backends(pool, role="nexus_api")
            with stopped({process}):
                await revoke(owner, made.key.id)
                said = await opened.until(made.text, Check.REVOKED)  # by another connection
        else:
            await wire.cut() if trouble == "cut" else wire.hang()
            await revoke(owner, made.key.id)
            holder = opened.keys.principal(made.text.encode())
            assert await opened.until(made.text, Check.RECORD_AWAY) == [Check.LIVE, Check.RECORD_AWAY]
            assert opened.says("nxk_") is Check.RECORD_AWAY
            with pytest.raises(KeysUnavailable):
                opened.keys.is_live(holder)
            await wire.mend() if trouble == "cut" else wire.flow()
            said = await opened.until(made.text, Check.REVOKED)
            assert said == [Check.RECORD_AWAY, Check.REVOKED]
        assert Check.LIVE not in said[1:]


async def test_a_standby_may_not_tell_who_comes_in(settings: Settings, owner: Connection) -> None:
    """After a failover a connection may still lead to the former primary."""
    made = await service_key(owner)
    async with door(settings) as opened:
        session = opened.keys._session
        assert session is not None

        class Standby:
            async def fetch(self, *_: object, **__: object) -> list[tuple[int, bool]]:
                return [(opened.keys._version or 0, True)]

        with pytest.raises(Unavailable):
            await opened.keys._look(session._replace(connection=Standby()))  # type: ignore[arg-type]
        assert opened.says(made.text) is Check.LIVE


async def test_a_process_starts_only_with_the_keys(settings: Settings, owner: Connection) -> None:
    async with wired(settings) as (far, wire):
        await wire.cut()
        with pytest.raises(Unavailable, match="does not answer"):
            await ApiKeys(far).start()
        await wire.mend()
    await owner.execute("DROP TABLE api_keys_version CASCADE")
    with pytest.raises(Unavailable, match="nexus-graph migrate"):
        await ApiKeys(settings).start()


async def test_keys_end_by_themselves(settings: Settings, owner: Connection) -> None:
    async with door(settings) as opened:
        made = await service_key(owner, 1.5)
        await opened.until(made.text, Check.LIVE)
        holder = opened.keys.principal(made.text.encode())
        assert await opened.until(made.text, Check.EXPIRED) == [Check.LIVE, Check.EXPIRED]
        assert opened.refusals[-1] == (Check.EXPIRED, made.key.id)
        assert not opened.keys.is_live(holder)
        with pytest.raises(KeyRefused, match="works no more"):
            await rotate(owner, made.key.id, overlap_seconds=60)


async def test_the_audit_trail_tells_of_each_change_once(owner: Connection) -> None:
    made = await create(owner, "shop", [Role.SERVICE], None)
    rotated = await rotate(owner, made.key.id, overlap_seconds=60)
    for _ in range(2):
        await revoke(owner, rotated.made.key.id)
    entries = await owner.fetch("SELECT who, what, outcome, subject FROM audit_log ORDER BY seq")
    assert [tuple(entry) for entry in entries] == [
        ("command", "key-create", "changed", f"key:{made.key.id}"),
        ("command", "key-rotate", "changed", f"key:{made.key.id}"),
        ("command", "key-revoke", "changed", f"key:{rotated.made.key.id}"),
    ]


async def test_a_dump_of_the_table_lets_nobody_in(settings: Settings, owner: Connection) -> None:
    made = await service_key(owner)
    (row,) = await owner.fetch("SELECT * FROM api_keys")
    dump: str = await owner.fetchval("SELECT (api_keys)::text FROM api_keys")
    assert made.text[17:81] not in dump
    stored: bytes = row["secret_hash"]
    presented = [
        *map(str, row.values()),
        *re.split(r"\W+", dump),
        stored.hex(),
        f"nxk_{row['id']}_{stored.hex()}",
        key_text(row["id"], stored.hex()),
        key_text(row["id"], ""),
        key_text("", stored.hex()),
    ]
    async with door(settings) as opened:
        assert Check.LIVE not in {opened.says(text) for text in presented}
        assert {key_id for _, key_id in opened.refusals} == {None}
        assert opened.says(made.text) is Check.LIVE


async def test_the_api_reads_keys_and_notes_their_use_and_no_more(owner: Connection) -> None:
    made = await service_key(owner)
    await owner.execute("SET role = nexus_api")
    await owner.execute("SELECT * FROM api_keys, api_keys_version")
    await owner.execute("UPDATE api_keys SET last_used_at = now()")
    for statement in (
        "UPDATE api_keys SET revoked_at = NULL",
        "UPDATE api_keys SET roles = ARRAY['admin']",
        "UPDATE api_keys SET secret_hash = sha256('x')",
        f"INSERT INTO api_keys (id, name, roles, secret_hash) VALUES ('{'0' * 12}', 'x', ARRAY['admin'], sha256('x'))",
        "DELETE FROM api_keys",
        "TRUNCATE api_keys",
        "UPDATE api_keys_version SET version = 0",
        "ALTER TABLE api_keys DISABLE TRIGGER ALL",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await owner.execute(statement)
    for role in ("nexus_relay", "nexus_import"):
        await owner.execute(f"RESET role; SET role = {role}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await owner.execute("SELECT FROM api_keys")
    await owner.execute("RESET role")
    row = await owner.fetchrow("SELECT * FROM api_keys")
    assert row is not None
    assert (row["roles"], row["revoked_at"]) == (["service"], None)
    assert row["id"] == made.key.id


async def test_use_is_noted_by_the_hour_and_once(
    settings: Settings, owner: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "_NOTE_USE_SECONDS", 0.0)
    used, unused = await service_key(owner), await service_key(owner)
    noted = "SELECT last_used_at, xmin::text FROM api_keys WHERE id = $1"
    async with door(settings) as opened:
        version = opened.keys._version
        opened.says(used.text)
        assert opened.keys._used == {used.key.id}
        await until(lambda: not opened.keys._used)
        row = await owner.fetchrow(noted, used.key.id)
        assert row is not None
        hour = row["last_used_at"]
        assert (hour.minute, hour.second, hour.microsecond) == (0, 0, 0)
        assert timedelta(0) <= datetime.now(UTC) - hour < timedelta(hours=1, minutes=1)
        for _ in range(100):
            assert opened.says(used.text) is Check.LIVE
        opened.says(key_text(unused.key.id, "0" * 64))
        assert opened.keys._used == set()
        assert opened.keys._version == version
    async with door(settings) as another:
        another.says(used.text)
    assert await owner.fetchrow(noted, used.key.id) == row
    assert await owner.fetchval(noted, unused.key.id) is None


async def test_use_is_noted_at_the_end_and_never_of_a_key_that_was_revoked(
    settings: Settings, owner: Connection
) -> None:
    used, revoked = await service_key(owner), await service_key(owner)
    async with door(settings) as opened:
        opened.keys._use_noted_at = float("inf")
        assert opened.says(used.text) is opened.says(revoked.text) is Check.LIVE
        await revoke(owner, revoked.key.id)
        await opened.until(revoked.text, Check.REVOKED)
    last_used = {row["id"]: row["last_used_at"] for row in await owner.fetch("SELECT * FROM api_keys")}
    assert last_used[used.key.id] is not None
    assert last_used[revoked.key.id] is None


async def test_a_record_that_takes_no_writes_still_tells_who_may_come_in(
    settings: Settings, owner: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "_NOTE_USE_SECONDS", 0.0)
    made = await service_key(owner)
    await owner.execute("REVOKE UPDATE (last_used_at) ON api_keys FROM nexus_api")
    async with door(settings) as opened:
        session = opened.keys._session
        assert opened.says(made.text) is Check.LIVE
        looked = opened.keys._good_until
        await until(lambda: opened.keys._good_until > looked + 2 * keys._POLL_SECONDS)
        assert opened.keys._session is session
        assert opened.keys._used == {made.key.id}
        await owner.execute("GRANT UPDATE (last_used_at) ON api_keys TO nexus_api")
        await until(lambda: not opened.keys._used)
    assert await owner.fetchval("SELECT last_used_at FROM api_keys") is not None


async def test_so_many_keys_may_work_and_no_more(
    settings: Settings, owner: Connection, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuing, "KEYS_WORKING_MAX", 3)

    async def another() -> Made | KeyRefused:
        async with pool.acquire() as connection:
            try:
                return await service_key(connection)  # type: ignore[arg-type]
            except KeyRefused as refused:
                return refused

    made = await asyncio.gather(*(another() for _ in range(8)))
    working = [key for key in made if isinstance(key, Made)]
    assert len(working) == await owner.fetchval("SELECT count(*) FROM api_keys") == 3
    with pytest.raises(KeyRefused, match="3 keys work now"):
        await rotate(owner, working[0].key.id, overlap_seconds=60)
    assert await owner.fetchval("SELECT count(*) FROM api_keys WHERE expires_at IS NOT NULL") == 0
    await revoke(owner, working[0].key.id)
    await service_key(owner)
    monkeypatch.setattr(keys, "KEYS_HELD_MAX", 3)
    async with door(settings) as opened:
        assert [opened.says(key.text) for key in working] == [Check.UNKNOWN, Check.LIVE, Check.LIVE]


@pytest.mark.parametrize(
    ("statement", "arguments", "index"),
    [
        ("api_keys_held", (10,), "api_keys_ended"),
        ("api_keys_list", (10,), "api_keys_ended"),
        ("api_keys_used", (["0" * 12],), "api_keys_pkey"),
        ("api_keys_version", (), "api_keys_version_pkey"),
    ],
)
async def test_statements_rely_on_the_index_that_they_name(
    settings: Settings, statement: str, arguments: tuple[object, ...], index: str
) -> None:
    pool = await connect_pool(settings, role="nexus_api", size=1)
    assert index in sql(statement)
    plan = await pool.fetchval(f"EXPLAIN (FORMAT JSON) {sql(statement)}", *arguments)
    assert f'"Index Name": "{index}"' in plan
    assert "Seq Scan" not in plan
    await pool.close()


async def test_of_rotations_at_once_one_is_made(owner: Connection, pool: Pool) -> None:
    made = await service_key(owner)

    async def rotated() -> bool:
        async with pool.acquire() as connection:
            try:
                await rotate(connection, made.key.id, overlap_seconds=60)  # type: ignore[arg-type]
            except KeyRefused:
                return False
            return True

    assert sorted(await asyncio.gather(*(rotated() for _ in range(5)))) == [False] * 4 + [True]
    assert await owner.fetchval("SELECT count(*) FROM api_keys") == 2


async def test_checks_are_counted_by_what_came_of_them(settings: Settings, owner: Connection) -> None:
    def counted(check: Check) -> float:
        return REGISTRY.get_sample_value("nexus_key_checks_total", {"result": check.value}) or 0.0

    made = await service_key(owner)
    before = {check: counted(check) for check in Check}
    async with door(settings) as opened:
        for _ in range(10):
            opened.says(made.text)
        opened.says("no key")
    assert {check: counted(check) - before[check] for check in Check if counted(check) != before[check]} == {
        Check.LIVE: 10,
        Check.MALFORMED: 1,
    }
