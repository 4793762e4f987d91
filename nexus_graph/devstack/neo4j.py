"""The embedded Neo4j Community with its Browser: configuration, password, and a JVM that starts quickly."""

import hashlib
import os
import platform
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from nexus_graph.api.neo4j_browser.serving import after_connecting
from nexus_graph.devstack import probes
from nexus_graph.devstack.datadir import write_atomically
from nexus_graph.devstack.jars import java, java_version
from nexus_graph.devstack.ports import LOOPBACK
from nexus_graph.devstack.process import Command, StackError

MAIN_CLASS = "org.neo4j.server.Neo4jCommunity"
USER = "neo4j"
HEAP = "512m"
PAGE_CACHE = "256m"
STOP_TIMEOUT_SECONDS = 20.0
PASSWORD_SALT_BYTES = 32
PASSWORD_ITERATIONS = 1024  # what Neo4j itself writes for an initial password
DEFAULT_SETTINGS: Mapping[str, str] = {
    "server.default_listen_address": LOOPBACK,
    "server.default_advertised_address": LOOPBACK,
    "server.bolt.enabled": "true",
    "server.http.enabled": "true",
    "server.https.enabled": "false",
    "server.http_enabled_modules": "BROWSER",  # the other modules serve HTTP to applications; ours use Bolt
    "server.memory.heap.initial_size": HEAP,
    "server.memory.heap.max_size": HEAP,
    "server.memory.pagecache.size": PAGE_CACHE,
    "dbms.security.auth_enabled": "true",
    "dbms.security.allow_csv_import_from_file_urls": "false",
    "dbms.usage_report.enabled": "false",
    "dbms.fleet_manager.enabled": "false",
    "client.allow_telemetry": "false",
    # Queries carry identifiers, which stay out of logs.
    "db.logs.query.enabled": "OFF",
    "db.logs.query.parameter_logging_enabled": "false",
    "db.tx_log.rotation.retention_policy": "256M size",
    # Stock Neo4j waits ten quiet seconds after the last connection before it stops.
    "internal.dbms.bolt.netty_server_shutdown_quiet_period_duration": "0s",
    "internal.dbms.bolt.netty_server_shutdown_timeout": "2s",
}
JVM_OPTIONS = (
    f"-Xms{HEAP}",
    f"-Xmx{HEAP}",
    "-XX:+UseG1GC",
    "-XX:-OmitStackTraceInFastThrow",
    "-XX:+DisableExplicitGC",
    "-XX:+ExitOnOutOfMemoryError",  # the stack starts it again
    "-Djdk.nio.maxCachedBufferSize=1024",
    "-Dio.netty.tryReflectionSetAccessible=true",
    "-Dio.netty.leakDetection.level=DISABLED",
    "-Dlog4j2.disable.jmx=true",
    "-Djava.awt.headless=true",
    "-Dfile.encoding=UTF-8",
    "--add-opens=java.base/java.nio=ALL-UNNAMED",
    "--add-opens=java.base/java.io=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
    "-Xlog:disable",
    "-Xlog:all=error:stderr",
)
TRAINING = "4"
"""Version of the training: a change makes a new archive."""
FOREIGN_JVM_VARIABLES = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "CLASSPATH")


@dataclass
class Neo4j:
    """One server. `prepare` writes files only."""

    folder: Path
    bolt_port: int
    browser_port: int
    password: str
    installation: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    api: str = ""
    """The API's address, from which Neo4j Browser gets its style and its guide; empty: no API."""
    archive_options: Sequence[str] | None = None
    """The JVM's options about its archive; None: use the archive if there is one."""

    @property
    def uri(self) -> str:
        return f"bolt://{LOOPBACK}:{self.bolt_port}"

    @property
    def browser_url(self) -> str:
        """The address of Neo4j Browser, with a form that asks only for the password."""
        return f"http://{LOOPBACK}:{self.browser_port}/browser/?connectURL=bolt://{USER}@{LOOPBACK}:{self.bolt_port}"

    def prepare(self) -> None:
        """Write the configuration, and the password if there is no database yet."""
        (self.folder / "conf").mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(self.folder / "conf" / "neo4j.conf", self._configuration())
        write_atomically(self.folder / "conf" / "jvm.args", self._java_arguments())
        if not (self.folder / "data" / "databases").exists():
            # The file that `neo4j-admin dbms set-initial-password` writes: read when the first start makes the system
            # database, ignored ever after. Writing it ourselves saves a JVM and keeps the password off command lines.
            (self.folder / "data" / "dbms").mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(self.folder / "data" / "dbms" / "auth.ini", _initial_user(USER, self.password))

    def command(self, log: Path) -> Command:
        """The command of the server; call `prepare` first."""

        async def answers() -> bool:
            if not (await probes.tcp(LOOPBACK, self.bolt_port)).ok:  # much cheaper than the driver's failure
                return False
            answer = await probes.neo4j(self.uri, USER, self.password)
            if answer.refused_credentials:
                raise StackError(
                    f"Neo4j refuses the password kept in {self.folder.parent / 'passwords.json'}: "
                    "its data was made with another password file.\n"
                    f"PostgreSQL holds all that is needed to rebuild the graph: remove {self.folder / 'data'}, start "
                    "again, then run: nexus-graph rebuild-graph"
                )
            return answer.ok and (await probes.http(f"http://{LOOPBACK}:{self.browser_port}/")).ok

        return Command(
            name="neo4j",
            argv=[
                str(java()),
                f"@{self.folder / 'conf' / 'jvm.args'}",
                MAIN_CLASS,
                f"--home-dir={self.folder}",
                f"--config-dir={self.folder / 'conf'}",
            ],
            log=log,
            cwd=self.folder,
            probe=answers,
            env=java_environment(),
            stop_timeout_seconds=STOP_TIMEOUT_SECONDS,
        )

    def _configuration(self) -> str:
        settings = {
            **DEFAULT_SETTINGS,
            "server.bolt.listen_address": f"{LOOPBACK}:{self.bolt_port}",
            "server.bolt.advertised_address": f"{LOOPBACK}:{self.bolt_port}",
            "server.http.listen_address": f"{LOOPBACK}:{self.browser_port}",
            "server.http.advertised_address": f"{LOOPBACK}:{self.browser_port}",
            **(_of_the_browser(self.api) if self.api else {}),
            **self.settings,
        }
        lines = ["# Written at every start."]
        lines += [f"{name}={value}" for name, value in settings.items()]
        return "\n".join(lines) + "\n"

    def _java_arguments(self) -> str:
        archive = archive_path(self.installation)
        archive_options = self.archive_options
        if archive_options is None:
            archive_options = [f"-XX:AOTCache={archive}"] if archive.exists() else []
        return java_arguments(self.installation, archive_options)


def archive_path(installation: Path) -> Path:
    """The file of the archive. An archive fits one JVM with one set of options and one set of jars; the JVM ignores an
    archive that does not fit.
    """
    digest = hashlib.sha256("\n".join((TRAINING, *JVM_OPTIONS)).encode()).hexdigest()[:8]
    return installation / f"java-{java_version()}-{platform.machine()}-{digest}.aot"


def java_environment() -> dict[str, str]:
    """Our environment, without variables that would change the JVM's options."""
    return {name: value for name, value in os.environ.items() if name not in FOREIGN_JVM_VARIABLES}


def java_arguments(installation: Path, more_options: Sequence[str]) -> str:
    """The text of a file of java arguments: options and class path."""
    jars = sorted(str(jar) for jar in (installation / "jars").glob("*.jar"))
    arguments = [*JVM_OPTIONS, *more_options, "-cp", os.pathsep.join(jars)]
    return "\n".join(_quoted(argument) for argument in arguments) + "\n"


def _of_the_browser(api: str) -> Mapping[str, str]:
    """Neo4j Browser's commands after it connects, and the hosts from which it may fetch files for these."""
    hosts = dict.fromkeys((LOOPBACK, "localhost", urlsplit(api).netloc.rpartition(":")[0]))
    return {
        "browser.post_connect_cmd": after_connecting(api),
        "browser.remote_content_hostname_whitelist": ",".join(hosts),
    }


def _quoted(argument: str) -> str:
    """Quote for a file of java arguments."""
    return '"' + argument.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _initial_user(name: str, password: str) -> str:
    """Neo4j's line for a user: repeated SHA-256 over salt and password."""
    salt = secrets.token_bytes(PASSWORD_SALT_BYTES)
    digest = hashlib.sha256(salt + password.encode()).digest()
    for _ in range(PASSWORD_ITERATIONS - 1):
        digest = hashlib.sha256(digest).digest()
    return f"{name}:SHA-256,{digest.hex()},{salt.hex()},{PASSWORD_ITERATIONS}:\n"
