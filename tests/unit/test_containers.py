"""The check of the container files: nothing to complain of here, and it sees every defect that is planted."""

import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

_FILES = ("Dockerfile", "docker-compose.yml", ".dockerignore", ".env.example", "pyproject.toml", "requirements.lock")
_FOLDERS = ("deploy", "nexus_graph", "schema", "cypher", "README.md")
_ROOT = Path(__file__).parent.parent.parent
_SCRIPT = _ROOT / "scripts" / "check_containers.py"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the check reads, to spoil."""
    for name in _FILES:
        shutil.copy(_ROOT / name, tmp_path / name)
    for name in _FOLDERS:
        (tmp_path / name).symlink_to(_ROOT / name)
    return tmp_path


def _spoil(file: Path, good: str, bad: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert good in text
    file.write_text(text.replace(good, bad, 1), encoding="utf-8")


def _own_faults(checkout: Path) -> list[str]:
    own_faults = cast("Callable[[Path], list[str]]", runpy.run_path(str(_SCRIPT))["own_faults"])
    return own_faults(checkout)


def _check(checkout: Path) -> tuple[int, str]:
    """Exit code and output of the script."""
    command = [sys.executable, str(_SCRIPT), str(checkout)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    return answer.returncode, answer.stdout + answer.stderr


def test_the_files_as_they_are_pass(checkout: Path) -> None:
    code, said = _check(checkout)
    assert code == 0, said
    assert "nothing to complain of (own rules, hadolint, Compose schema" in said


@pytest.mark.parametrize(
    ("good", "bad", "fault"),
    [
        ("python:3.13.15-slim-trixie", "python:latest", "python:latest has no exact tag"),
        ("python:3.13.15-slim-trixie", "python", "python has no exact tag"),
        ("USER 10001:10001", "USER root", "has no numeric USER other than root"),
        ("USER 10001:10001\n", "", "has no numeric USER other than root"),
        ("USER 10001:10001", "USER 0:0", "has no numeric USER other than root"),
        ("HEALTHCHECK --interval=10s", "#", "has no HEALTHCHECK in exec form"),
        ('ENTRYPOINT ["nexus-graph"]', "ENTRYPOINT nexus-graph", "has no ENTRYPOINT in exec form"),
        ("FROM scratch", "FROM base", "is not FROM scratch"),
        ("EXPOSE 8000", "RUN echo", "the last stage runs commands"),
        ("EXPOSE 8000", "COPY README.md /", "copies from outside the earlier stages"),
        ("EXPOSE 8000", "ENV NEO4J_PASSWORD=x", "ENV NEO4J_PASSWORD looks like a secret"),
        ("COPY schema schema", "ADD schema schema", "ADD fetches"),
        ("COPY schema schema", "COPY schemata schema", "COPY schemata: there is no such file"),
        ("--require-hashes ", "", "pip installs something without a hash"),
        ("--only-binary :all: ", "", "pip may need a compiler"),
        ("RUN hatchling", "RUN apt-get install gcc && hatchling", "past the lock files"),
        ("org.opencontainers.image.licenses", "licenses", "the label org.opencontainers.image.licenses is missing"),
        ("VERSION=0.1.0", "VERSION=0.0.9", "ARG VERSION is not 0.1.0"),
    ],
)
def test_defects_of_the_dockerfile_are_seen(checkout: Path, good: str, bad: str, fault: str) -> None:
    _spoil(checkout / "Dockerfile", good, bad)
    assert [f for f in _own_faults(checkout) if f.startswith("Dockerfile: ") and fault in f]


@pytest.mark.parametrize(
    ("good", "bad", "fault"),
    [
        ("postgres:18.6-trixie", "postgres:latest", "postgres: postgres:latest has no exact tag"),
        ("postgres:18.6-trixie", "postgres:18", "postgres: postgres:18 has no exact tag"),
        ("nexus-graph:0.1.0", "nexus-graph:0.0.9", "is not tagged with the version"),
        ('user: "999:999"', "user: root", "postgres: no numeric user"),
        ("read_only: true", "read_only: false", "its root file system is not read-only"),
        ("cap_drop: [ALL]", "cap_drop: [NET_RAW]", "it keeps capabilities"),
        ("cap_drop: [ALL]", "cap_drop: [ALL]\n  cap_add: [SYS_ADMIN]", "it keeps capabilities"),
        ('["no-new-privileges:true"]', "[]", "it may gain privileges"),
        ("  read_only: true", "  read_only: true\n  privileged: true", "it reaches into the host"),
        ("  read_only: true", "  read_only: true\n  network_mode: host", "it reaches into the host"),
        ("pids: 256", "devices: []", "postgres: no limit on pids"),
        ("127.0.0.1:8000:8000", "8000:8000", "api: port 8000:8000 is published beyond this machine"),
        ("neo4j-logs:/logs", "/var/run/docker.sock:/logs", "neo4j: it is given the engine's socket"),
        (
            "POSTGRES_PASSWORD: ${POSTGRES_PASSWORD:?put it into .env}",
            "POSTGRES_PASSWORD: postgres",
            "postgres: POSTGRES_PASSWORD must come from .env",
        ),
        (
            "REDISCLI_AUTH: ${VALKEY_PASSWORD:?put it into .env}",
            "REDISCLI_AUTH: ${VALKEY_PASSWORD:-hunter2}",
            "valkey: REDISCLI_AUTH must come from .env",
        ),
        ("nexus:${POSTGRES_PASSWORD:?put it into .env}@", "nexus:hunter2@", "api: a URL holds a password"),
        (
            "migrate: {condition: service_completed_successfully}",
            "migrate: {condition: service_started}",
            "migrate has",
        ),
        ("postgres: {condition: service_healthy}", "postgres: {condition: service_started}", "postgres has"),
        ("depends_on:\n      postgres: {condition: service_healthy}", "depends_on: [postgres]", "says no conditions"),
        ('      test: ["CMD-SHELL", "valkey-cli ping | grep -q PONG"]\n', "", "valkey: it has no health check"),
    ],
)
def test_defects_of_the_compose_file_are_seen(checkout: Path, good: str, bad: str, fault: str) -> None:
    _spoil(checkout / "docker-compose.yml", good, bad)
    assert [f for f in _own_faults(checkout) if f.startswith("docker-compose.yml: ") and fault in f]


@pytest.mark.parametrize(
    ("file", "good", "bad", "fault"),
    [
        (".env.example", "POSTGRES_PASSWORD=", "POSTGRES_PASSWORD=hunter2", "POSTGRES_PASSWORD has a value"),
        (".env.example", "VALKEY_PASSWORD=", "", "VALKEY_PASSWORD, which docker-compose.yml reads, is not in it"),
        (".dockerignore", "*\n", "", ".dockerignore: it does not begin by leaving everything out"),
        (".dockerignore", "!schema", "!schemata", ".dockerignore: !schemata: there is no such file"),
        ("requirements.lock", "asyncpg==", "asyncpg==9", "deploy/requirements.runtime.lock: asyncpg "),
        ("pyproject.toml", '"asyncpg>=', '"psycopg>=1", "asyncpg>=', "psycopg is missing"),
    ],
)
def test_defects_of_what_they_rely_on_are_seen(checkout: Path, file: str, good: str, bad: str, fault: str) -> None:
    _spoil(checkout / file, good, bad)
    assert [f for f in _own_faults(checkout) if fault in f]


def test_hadolint_and_the_compose_schema_are_asked(checkout: Path) -> None:
    _spoil(checkout / "Dockerfile", "WORKDIR /build", "WORKDIR build")
    _spoil(checkout / "docker-compose.yml", "stop_grace_period: 60s", "stop_grace_perod: 60s")
    code, said = _check(checkout)
    assert code == 1
    assert "hadolint: Dockerfile:" in said
    assert "Compose schema: " in said
    assert "stop_grace_perod" in said
