"""The nexus-graph command: each command is a few lines that call the module of its name.

Exit codes: 0 done; 1 failed, with the reason in the output; 2 the command or its settings are unusable.
"""

import os
import re
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from nexus_graph.door.permissions import Role

if TYPE_CHECKING:
    from nexus_graph.bulk.columns import Options
    from nexus_graph.config import Settings

app = typer.Typer(
    help="An identity graph that explains itself.", no_args_is_help=True, add_completion=False, rich_markup_mode=None
)
schema_app = typer.Typer(help="The GraphQL schema.", no_args_is_help=True)
app.add_typer(schema_app, name="schema")
cache_app = typer.Typer(help="The cache of family reads.", no_args_is_help=True)
app.add_typer(cache_app, name="cache")
keys_app = typer.Typer(help="API keys, by which services call the API.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")
audit_app = typer.Typer(help="The audit trail: who did what, when, to which families.", no_args_is_help=True)
app.add_typer(audit_app, name="audit")

EXIT_USAGE = 2


def _is_port(port: int | None) -> int | None:
    if port is not None and not 0 <= port <= 65_535:
        raise typer.BadParameter(f"{port} is no port: give 0 for any free port, or a number up to 65535")
    return port


def _is_host(host: str) -> str:
    from nexus_graph.addresses import is_of_this_machine

    if not host or not is_of_this_machine(host):
        raise typer.BadParameter(
            f"{host or 'an empty text'} is no address of this machine: give 127.0.0.1 for this machine alone, "
            "0.0.0.0 for other machines too"
        )
    return host


def _is_duration(text: str | None) -> str | None:
    from nexus_graph.commands.durations import seconds_in

    try:
        if text is not None:
            seconds_in(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    return text


def _is_lifetime(text: str | None) -> str | None:
    from nexus_graph.commands.durations import seconds_in

    if _is_duration(text) is not None and seconds_in(str(text)) == 0:
        raise typer.BadParameter("give at least 1s")
    return text


def _is_key_name(name: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}", name) is None:
        raise typer.BadParameter(
            "give 1 to 64 letters, digits, spaces, dots, dashes or underscores, the first a letter or a digit"
        )
    return name


DataDir = Annotated[Path, typer.Option(help="Where the embedded servers keep their data.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Host = Annotated[str, typer.Option(help="Address to listen on.", callback=_is_host)]

ContactsFile = Annotated[Path, typer.Argument(help="A .csv, .tsv or .jsonl file with emails and phones.", exists=True)]
Map = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="KIND=COLUMN",
        help="A column of emails or phones: email=COLUMN, phone=COLUMN. Known names need no option. Repeatable.",
    ),
]
Ignore = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN", help="Leave out a column that looks like an email or a phone. Repeatable."),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict", help="Refuse a row for any cell that is no email or phone. Default: send the rest of the row."
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print how the file is read and the first faults. Write nothing.")
]
RejectsFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Write each faulty row to this new file, with its line, column and reason. Mend it to load it again.",
    ),
]
KeyName = Annotated[
    str,
    typer.Option("--name", metavar="NAME", help="Who holds the key: a service, not a person.", callback=_is_key_name),
]
KeyRoles = Annotated[list[Role], typer.Option("--role", help="What the holder may do. Repeatable.")]
KeyId = Annotated[str, typer.Argument(metavar="ID", help="The key's id, as `nexus-graph keys list` shows it.")]
Expires = Annotated[
    str | None,
    typer.Option(metavar="DURATION", help="How long the new key works: 12h, 90d.", callback=_is_lifetime),
]
Overlap = Annotated[
    str,
    typer.Option(
        metavar="DURATION", help="How long the former key works on beside the new one: 0s, 24h.", callback=_is_duration
    ),
]

_DATA_DIR = Path(".nexus")
_MOMENTS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f"]
_SERVERS = ("database_url", "redis_url", "neo4j_uri", "neo4j_user", "neo4j_password")
_NOT_HERE: dict[str, Any] = {"database_replica_url": None, "database_direct_url": None, "pgbouncer": False}
"""Servers that no stack of `up` has; replaces the values of the environment."""


@app.command()
def up(
    host: Host = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            help="Port of the API; 0 means any free one. [default: 8000, or a free one if 8000 is taken]",
            callback=_is_port,
        ),
    ] = None,
    data_dir: DataDir = _DATA_DIR,
) -> None:
    """Start everything here: PostgreSQL, Valkey, Neo4j with its Browser, migrations, relay, API. Ctrl-C stops it."""
    from nexus_graph.config import Settings
    from nexus_graph.devstack.stack import StackOptions
    from nexus_graph.devstack.stack import up as run
    from nexus_graph.failures import say
    from nexus_graph.variables import unknown

    # Exits before a server starts if settings are unusable. `up` starts servers of its own, in place of those of the
    # environment.
    _read(**{name: Settings.model_fields[name].default for name in _SERVERS}, **_NOT_HERE)
    for variable in unknown(os.environ):
        say(f"nothing reads {variable.name}: {variable.advice}")
    options = StackOptions(host=host, port=port, data_dir=data_dir)
    raise typer.Exit(run(options))


@app.command()
def status(*, data_dir: DataDir = _DATA_DIR, json: Json = False) -> None:
    """Print what runs in a data directory, with the addresses."""
    from nexus_graph.commands.status import report

    raise typer.Exit(report(data_dir, as_json=json))


@app.command()
def doctor(data_dir: DataDir = _DATA_DIR) -> None:
    """Check installation, settings and servers; print each fault with the next step."""
    import asyncio

    from nexus_graph.commands.doctor import run

    raise typer.Exit(asyncio.run(run(data_dir)))


@app.command()
def serve(
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the API; 0 means any free one.", callback=_is_port)] = 8000,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that serve; about one a core.")] = 1,
    tls_cert: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Certificate chain in PEM: serve TLS. [default: NEXUS_TLS_CERT]"),
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The certificate's private key. [default: NEXUS_TLS_KEY]")
    ] = None,
) -> None:
    """Serve the API on the servers that DATABASE_URL, REDIS_URL and NEO4J_URI name.

    Certificate and key are read again when their files change; open connections go on.
    """
    from nexus_graph.app import serve as run

    files = {"tls_cert": tls_cert, "tls_key": tls_key}
    settings = _settings_of_server(**{name: file for name, file in files.items() if file is not None})
    _run_and_exit(settings, lambda settings: run(settings, host=host, port=port, workers=workers))


@app.command()
def relay() -> None:
    """Keep the graph in step with the record, until stopped."""
    from nexus_graph.relay import run

    _run_and_exit(_settings_of_server(), run)


@app.command()
def migrate() -> None:
    """Bring the record's schema up to date."""
    from nexus_graph.store.migrate import migrate_database

    async def run(settings: "Settings") -> int:
        applied = await migrate_database(settings)
        typer.echo("\n".join(applied) if applied else "nothing to do")
        return 0

    _run_and_exit(_settings(), run)


@app.command()
def verify(*, data_dir: DataDir = _DATA_DIR, json: Json = False) -> None:
    """Compare every family in both stores; exit 1 if any differs."""
    from nexus_graph.commands.copies import verify_graph

    _run_and_exit(_settings(data_dir), lambda settings: verify_graph(settings, as_json=json))


@app.command()
def repair(*, data_dir: DataDir = _DATA_DIR, json: Json = False) -> None:
    """Mend what verify finds, and verify again."""
    from nexus_graph.commands.copies import verify_graph

    _run_and_exit(_settings(data_dir), lambda settings: verify_graph(settings, mend=True, as_json=json))


@app.command("rebuild-graph")
def rebuild_graph(*, data_dir: DataDir = _DATA_DIR, json: Json = False) -> None:
    """Rebuild the graph from the record."""
    from nexus_graph.commands.copies import rebuild_graph as run

    _run_and_exit(_settings(data_dir), lambda settings: run(settings, as_json=json))


@app.command()
def load(
    file: ContactsFile,
    *,
    mapped: Map = None,
    ignore: Ignore = None,
    strict: Strict = False,
    dry_run: DryRun = False,
    rejects: RejectsFile = None,
    rate: Annotated[float | None, typer.Option(help="At most this many rows a second.", min=0.1)] = None,
    data_dir: DataDir = _DATA_DIR,
    json: Json = False,
) -> None:
    """Send the rows of a file through identify.

    The file is .csv or .tsv, with a header, or .jsonl, in UTF-8. Exports of HubSpot, Salesforce, Google, Outlook,
    Mailchimp and Shopify are known, in many languages; the columns in use are printed first. A row with several emails
    and phones is sent as several pairs, tied together. Phones without a + belong to no country unless
    NEXUS_PHONE_REGION is set: else 919876543210 and +919876543210 are two phones.

    \b
    nexus-graph load people.csv --dry-run
    nexus-graph load people.csv --map phone="Tel. 2" --ignore "Owner email" --rejects faulty.csv
    nexus-graph load faulty.csv    # once you have mended its rows

    Exit code: 0 if every row is in, with every cell that holds a value; 1 if not, with the faults in the summary; 2 if
    the columns are unclear, or the file cannot be read to its end.
    """  # noqa: D301 - \b keeps the examples' lines
    from nexus_graph.commands.files import load_contacts

    options = _file_options(file, mapped, ignore, strict=strict, dry=dry_run, rejects=rejects)
    _run_and_exit(
        _settings(None if dry_run else data_dir),
        lambda settings: load_contacts(settings, file, options, rate=rate, as_json=json),
    )


@app.command("import")
def import_file(
    file: ContactsFile,
    *,
    mapped: Map = None,
    ignore: Ignore = None,
    strict: Strict = False,
    dry_run: DryRun = False,
    rejects: RejectsFile = None,
    data_dir: DataDir = _DATA_DIR,
    json: Json = False,
) -> None:
    """Import the rows of a large file, with the result of load, many times as fast.

    Files, options and exit codes are those of load, except --rate. See nexus-graph load --help.

    \b
    nexus-graph import people.csv --map email="E-mail 1 - Value" --map phone="Phone 1 - Value" --rejects faulty.csv
    """  # noqa: D301
    from nexus_graph.commands.files import import_contacts

    options = _file_options(file, mapped, ignore, strict=strict, dry=dry_run, rejects=rejects)
    _run_and_exit(
        _settings(None if dry_run else data_dir),
        lambda settings: import_contacts(settings, file, options, as_json=json),
    )


@app.command()
def renormalize(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Report what would change. Write nothing.")] = False,
    list_to: Annotated[
        Path | None,
        typer.Option("--list", help="Write each finding to this CSV file, with the emails and phones themselves."),
    ] = None,
    data_dir: DataDir = _DATA_DIR,
    json: Json = False,
) -> None:
    """Rewrite the record's emails and phones by today's rules, and unite families that then share one."""
    from nexus_graph.commands.renormalize import run

    _run_and_exit(_settings(data_dir), lambda settings: run(settings, dry_run=dry_run, list_to=list_to, as_json=json))


@app.command()
def demo(data_dir: DataDir = _DATA_DIR) -> None:
    """Load the shipped demonstration data and print three families as trees."""
    from nexus_graph.demo import run

    _run_and_exit(_settings(data_dir), run)


@app.command("dev-token")
def dev_token(
    *,
    role: KeyRoles,
    subject: Annotated[str, typer.Option(help="Whom the token speaks for.")] = "developer",
    expires: Annotated[
        str, typer.Option(metavar="DURATION", help="How long the token works: 1h, 30d.", callback=_is_duration)
    ] = "1h",
    data_dir: DataDir = _DATA_DIR,
    json: Json = False,
) -> None:
    """Print a token (JWT) that `nexus-graph up` takes on a loopback address, signed with a key of the data directory.

    Callers send it as `Authorization: Bearer …`.

    \b
    TOKEN=$(nexus-graph dev-token --role steward)
    """  # noqa: D301
    from nexus_graph.commands.dev_token import run
    from nexus_graph.commands.durations import seconds_in

    raise typer.Exit(run(data_dir, role, subject, seconds_in(expires), as_json=json))


@cache_app.command("warm")
def cache_warm(*, data_dir: DataDir = _DATA_DIR, json: Json = False) -> None:
    """Put the families that changed last into Redis, before the first readers."""
    from nexus_graph.commands.copies import warm_cache

    _run_and_exit(_settings(data_dir), lambda settings: warm_cache(settings, as_json=json))


@keys_app.command("create")
def keys_create(
    *, name: KeyName, role: KeyRoles, expires: Expires = None, data_dir: DataDir = _DATA_DIR, json: Json = False
) -> None:
    """Make a key and print it, this once: the record keeps only a hash of it.

    Without --expires the key works until you revoke it. Every process knows the key within a second. Callers send it as
    `Authorization: Bearer nxk_…` or as `X-API-Key`.

    \b
    KEY=$(nexus-graph keys create --name shop --role service --expires 90d)
    """  # noqa: D301
    from nexus_graph.commands.durations import seconds_in
    from nexus_graph.commands.keys import run_create

    lasts = None if expires is None else seconds_in(expires)
    _run_and_exit(_settings(data_dir), lambda settings: run_create(settings, name, role, lasts, as_json=json))


@keys_app.command("list")
def keys_list(*, data_dir: DataDir = _DATA_DIR, json: Json = False) -> None:
    """Print all keys that work and those that ended last, each with the hour of its last use."""
    from nexus_graph.commands.keys import run_list

    _run_and_exit(_settings(data_dir), lambda settings: run_list(settings, as_json=json))


@keys_app.command("revoke")
def keys_revoke(key_id: KeyId, *, data_dir: DataDir = _DATA_DIR, json: Json = False) -> None:
    """End a key for good. Every process refuses it within a second, and closes what it opened within half a minute."""
    from nexus_graph.commands.keys import run_revoke

    _run_and_exit(_settings(data_dir), lambda settings: run_revoke(settings, key_id, as_json=json))


@keys_app.command("rotate")
def keys_rotate(
    key_id: KeyId,
    *,
    overlap: Overlap = "24h",
    expires: Expires = None,
    data_dir: DataDir = _DATA_DIR,
    json: Json = False,
) -> None:
    """Make a key in place of another, with its name and roles, and print it, this once.

    The new key lasts as long as the former one was made to last, unless --expires says otherwise. Give the new key to
    its holder within the overlap; a key that has leaked is better revoked.
    """
    from nexus_graph.commands.durations import seconds_in
    from nexus_graph.commands.keys import run_rotate

    lasts = None if expires is None else seconds_in(expires)
    _run_and_exit(
        _settings(data_dir),
        lambda settings: run_rotate(settings, key_id, seconds_in(overlap), lasts, as_json=json),
    )


@audit_app.command("verify")
def audit_verify(
    *,
    head_file: Annotated[
        Path | None,
        typer.Option(
            help="A file that keeps an earlier head of the trail. [default: NEXUS_AUDIT_HEAD_FILE]", dir_okay=False
        ),
    ] = None,
    data_dir: DataDir = _DATA_DIR,
    json: Json = False,
) -> None:
    """Check every entry of the trail, and print its head; exit 1 if any was changed, removed or forged."""
    from nexus_graph.commands.audit import verify as run

    _run_and_exit(_settings(data_dir), lambda settings: run(settings, head_file=head_file, as_json=json))


@audit_app.command("export")
def audit_export(
    *,
    first: Annotated[
        datetime | None, typer.Option("--from", formats=_MOMENTS, help="Entries stored from this moment on, by UTC.")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option("--to", formats=_MOMENTS, help="Entries stored before this moment, by UTC.")
    ] = None,
    form: Annotated[Literal["jsonl", "csv"], typer.Option("--format", help="JSON lines, or CSV with a header.")] = (
        "jsonl"
    ),
    data_dir: DataDir = _DATA_DIR,
) -> None:
    """Print the entries of a time, in their order. A time that has passed gives the same entries again."""
    from nexus_graph.commands.audit import export as run

    first, until = (moment and moment.replace(tzinfo=UTC) for moment in (first, until))
    _run_and_exit(_settings(data_dir), lambda settings: run(settings, first=first, until=until, form=form))


@audit_app.command("retain")
def audit_retain(
    *,
    months: Annotated[int, typer.Option(min=1, max=1_200, help="Keep this month, and so many before it.")],
    data_dir: DataDir = _DATA_DIR,
    json: Json = False,
) -> None:
    """Drop older months of the trail. What is kept still verifies; exit 1, with nothing dropped, if these do not."""
    from nexus_graph.commands.audit import retain as run

    _run_and_exit(_settings(data_dir), lambda settings: run(settings, months=months, as_json=json))


@schema_app.command("export")
def schema_export(
    *, check: Annotated[bool, typer.Option("--check", help="Only check that the file is up to date.")] = False
) -> None:
    """Write schema/schema.graphql from the code."""
    from nexus_graph.api.graphql.schema import sdl
    from nexus_graph.statements import GRAPHQL_SCHEMA

    text = sdl()
    if not check:
        GRAPHQL_SCHEMA.write_text(text, encoding="utf-8")
    elif not GRAPHQL_SCHEMA.exists() or GRAPHQL_SCHEMA.read_text(encoding="utf-8") != text:
        typer.echo(
            "schema/schema.graphql differs from the code: run `make schema` and look at the difference", err=True
        )
        raise typer.Exit(1)


def _file_options(
    file: Path, mapped: list[str] | None, ignored: list[str] | None, *, strict: bool, dry: bool, rejects: Path | None
) -> "Options":
    """The options for a file of contacts. Exits with 2 if they are unusable."""
    from nexus_graph.bulk.columns import Choice, Options
    from nexus_graph.bulk.lines import UnclearColumns

    try:
        choice = Choice.of_options(mapped or (), ignored or ())
        if dry and rejects is not None:
            raise UnclearColumns("--dry-run writes nothing: leave out --rejects")
    except UnclearColumns as error:
        typer.echo(f"{file}: {error}", err=True)
        raise typer.Exit(EXIT_USAGE) from None
    return Options(choice, strict=strict, dry=dry, rejects=rejects)


def _run_and_exit(settings: "Settings", command: "Callable[[Settings], int | Coroutine[Any, Any, int]]") -> NoReturn:
    """Run the command, and exit with its code; with a reason on stderr if the command cannot go on."""
    from nexus_graph.failures import without_traceback

    raise typer.Exit(without_traceback(settings, command))


def _settings(data_dir: Path | None = None) -> "Settings":
    """The settings of the environment; with a data directory, and no DATABASE_URL, those of the stack that runs there.
    Exits with 2 if no stack runs there, or settings are unusable.
    """
    if data_dir is None or os.environ.get("DATABASE_URL") or os.environ.get("DATABASE_URL_FILE"):
        return _read()
    from nexus_graph.devstack.status import read_status
    from nexus_graph.failures import say

    status = read_status(data_dir)
    if status is None:
        say(f"no stack runs in {data_dir}: start one with `nexus-graph up`, or set DATABASE_URL")
        raise typer.Exit(EXIT_USAGE)
    return _read(**{name: status[name] for name in _SERVERS}, **_NOT_HERE)


def _read(**given: Any) -> "Settings":
    from nexus_graph.failures import say
    from nexus_graph.variables import UnusableSettings, read_settings

    try:
        return read_settings(os.environ, **given)
    except UnusableSettings as error:
        for fault in error.faults:
            say(fault)
        raise typer.Exit(EXIT_USAGE) from None


def _settings_of_server(**given: Any) -> "Settings":
    """The settings of a long-lived process, whose log names the variables that nothing reads. `given` settings replace
    those of the environment.
    """
    from nexus_graph.telemetry import configure_logging, log
    from nexus_graph.variables import unknown

    settings = _read(**given)
    configure_logging(settings.log_level)
    for variable in unknown(os.environ):
        log("settings").warning("unknown_variable", variable=variable.name, advice=variable.advice)
    return settings
