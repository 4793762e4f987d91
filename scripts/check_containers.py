"""Check Dockerfile, docker-compose.yml and what they rely on, without a Docker engine. Exit 1 if anything is wrong.

    python scripts/check_containers.py [FOLDER]

Asks hadolint, the schema of the Compose specification (as check-jsonschema ships it) and `docker compose config`, each
where it is installed, and holds both files against the rules below. Says which of them it could not ask.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

ROOT: Final = Path(__file__).parent.parent
LOCK: Final = "requirements.lock"
DERIVED_LOCKS: Final = ("deploy/requirements.runtime.lock", "deploy/requirements.build.lock")
TOOL_TIMEOUT_SECONDS: Final = 120.0

_is_exact_tag = re.compile(r".+(:v?\d+\.\d+[\w.-]*|@sha256:[0-9a-f]{64})").fullmatch
_is_secret_name = re.compile(r"PASS|SECRET|TOKEN|CREDENTIAL|(^|_)AUTH$|API_?KEY").search
_is_required_variable = re.compile(r"(neo4j/)?\$\{\w+:\?[^}]*\}").fullmatch
_has_password_in_url = re.compile(r"://[^/\s@:]*:(?!\$\{\w+:\?)[^/\s@]+@").search
_variables = re.compile(r"(?<!\$)\$\{(\w+)(:\?)?").findall
_pins = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE).findall


class Instruction(NamedTuple):
    """One instruction of a Dockerfile, its continued lines joined."""

    word: str
    rest: str


def main() -> int:
    """Print what is wrong, or what was checked; the exit code."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT
    faults = own_faults(root)
    asked = ["own rules"]
    for name, command in _tools(root).items():
        if command is None:
            print(f"{name}: not installed, so not asked")
            continue
        asked.append(name)
        faults += _faults_of(name, command, root)
    for fault in faults:
        print(fault)
    if not faults:
        print(f"container files: nothing to complain of ({', '.join(asked)})")
    return 1 if faults else 0


def own_faults(root: Path) -> list[str]:
    """What the rules of this file find wrong in the checkout at `root`."""
    compose = yaml.safe_load((root / "docker-compose.yml").read_text(encoding="utf-8"))
    text = (root / "docker-compose.yml").read_text(encoding="utf-8")
    return [
        *(f"Dockerfile: {fault}" for fault in _dockerfile(root)),
        *(f"docker-compose.yml: {fault}" for fault in _compose(compose, _version(root))),
        *(f".env.example: {fault}" for fault in _example(text, (root / ".env.example").read_text(encoding="utf-8"))),
        *_ignored(root),
        *_locks(root),
    ]


def _tools(root: Path) -> dict[str, list[str] | None]:
    """How to ask each tool; None where it is not installed."""
    scripts = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    hadolint = shutil.which("hadolint", path=scripts)
    schema = shutil.which("check-jsonschema", path=scripts)
    docker = shutil.which("docker")
    composes = docker is not None and _run([docker, "compose", "version"], root).returncode == 0
    return {
        "hadolint": [hadolint, "--no-color", "Dockerfile"] if hadolint else None,
        "Compose schema": [schema, "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"] if schema else None,
        "docker compose config": [str(docker), "compose", "config", "--quiet"] if composes else None,
    }


def _faults_of(name: str, command: list[str], root: Path) -> list[str]:
    answer = _run(command, root)
    return [f"{name}: {line}" for line in (answer.stdout + answer.stderr).splitlines()] if answer.returncode else []


def _run(command: list[str], root: Path) -> subprocess.CompletedProcess[str]:
    required = [
        name for name, needed in _variables((root / "docker-compose.yml").read_text(encoding="utf-8")) if needed
    ]
    return subprocess.run(
        command,
        cwd=root,
        env={**os.environ, **dict.fromkeys(required, "x")},
        capture_output=True,
        text=True,
        timeout=TOOL_TIMEOUT_SECONDS,
        check=False,
    )


def _dockerfile(root: Path) -> Iterator[str]:
    stages = list(_stages((root / "Dockerfile").read_text(encoding="utf-8")))
    names = {stage[0].rest.split()[-1] for stage in stages}
    for stage in stages:
        image = stage[0].rest.split()[0]
        if image not in names | {"scratch"} and not _is_exact_tag(image):
            yield f"{image} has no exact tag"
        for instruction in stage:
            yield from _instruction(instruction, root)
    yield from _last_stage(stages[-1], names, _version(root))


def _stages(text: str) -> Iterator[list[Instruction]]:
    lines = (line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    stage: list[Instruction] = []
    for joined in re.split(r"(?<!\\)\n", "\n".join(lines)):
        word, _, rest = joined.replace("\\\n", " ").strip().partition(" ")
        if word.upper() == "FROM" and stage:
            yield stage
            stage = []
        stage.append(Instruction(word.upper(), rest.strip()))
    yield stage


def _instruction(instruction: Instruction, root: Path) -> Iterator[str]:
    word, rest = instruction
    if word == "ADD":
        yield "ADD fetches and unpacks; use COPY"
    if word in {"ENV", "ARG"} and any(_is_secret_name(part.partition("=")[0]) for part in rest.upper().split()):
        yield f"{word} {rest.partition('=')[0]} looks like a secret"
    if word == "RUN":
        yield from _commands(rest)
    if word == "COPY" and "--from=" not in rest:
        for source in rest.split()[:-1]:
            if not (root / source).exists():
                yield f"COPY {source}: there is no such file"


def _commands(commands: str) -> Iterator[str]:
    if re.search(r"\b(apt-get|apt|apk)\b.*\b(install|add)\b|\b(gcc|build-essential|curl|wget)\b", commands):
        yield "RUN installs or fetches something past the lock files"
    for install in re.findall(r"pip [^&|;]*\binstall\b[^&|;]*", commands):
        if "--no-index" in install:
            continue
        if "--require-hashes" not in install:
            yield "pip installs something without a hash"
        if "--only-binary :all:" not in install:
            yield "pip may need a compiler: --only-binary :all: is missing"


def _last_stage(stage: list[Instruction], names: set[str], version: str) -> Iterator[str]:
    said = {instruction.word: instruction.rest for instruction in stage}
    for word, pattern, fault in (
        ("FROM", r"scratch\b", "is not FROM scratch: what its base removed is only hidden"),
        ("USER", r"[1-9]\d*(:[1-9]\d*)?$", "has no numeric USER other than root"),
        ("HEALTHCHECK", r".*\bCMD \[", "has no HEALTHCHECK in exec form"),
        ("ENTRYPOINT", r"\[", "has no ENTRYPOINT in exec form"),
    ):
        if not re.match(pattern, said.get(word, "")):
            yield f"the last stage {fault}"
    if "RUN" in said:
        yield "the last stage runs commands; what they leave behind stays in it"
    for label in ("title", "description", "licenses", "version", "revision"):
        if f"org.opencontainers.image.{label}=" not in said.get("LABEL", ""):
            yield f"the label org.opencontainers.image.{label} is missing"
    for source in (rest for word, rest in stage if word == "COPY"):
        copied = re.match(r"--from=(\S+)", source)
        if copied is None or copied[1] not in names:
            yield "the last stage copies from outside the earlier stages"
    if f"VERSION={version}" not in [rest for word, rest in stage if word == "ARG"]:
        yield f"ARG VERSION is not {version}, the version in pyproject.toml"


def _compose(compose: Mapping[str, Any], version: str) -> Iterator[str]:
    services: Mapping[str, Mapping[str, Any]] = compose["services"]
    for name, service in services.items():
        for fault in (
            *_image(service, version),
            *_confinement(service),
            *_exposure(service),
            *_secrets(service),
            *_order(service, services),
        ):
            yield f"{name}: {fault}"


def _image(service: Mapping[str, Any], version: str) -> Iterator[str]:
    image = str(service.get("image", ""))
    if not _is_exact_tag(image) or ":latest" in image:
        yield f"{image or 'no image'} has no exact tag"
    if "build" in service and not image.endswith(f":{version}"):
        yield f"{image} is not tagged with the version in pyproject.toml, {version}"


def _confinement(service: Mapping[str, Any]) -> Iterator[str]:
    user = str(service.get("user", ""))
    if "build" not in service and not re.fullmatch(r"[1-9]\d*:[1-9]\d*", user):
        yield "no numeric user and group other than root"
    if service.get("read_only") is not True:
        yield "its root file system is not read-only"
    if service.get("cap_drop") != ["ALL"] or "cap_add" in service:
        yield "it keeps capabilities"
    if "no-new-privileges:true" not in service.get("security_opt", []):
        yield "it may gain privileges"
    if service.get("privileged") or {"pid", "ipc", "network_mode", "devices"} & service.keys():
        yield "it reaches into the host"
    limits = service.get("deploy", {}).get("resources", {}).get("limits", {})
    for resource in ("cpus", "memory", "pids"):
        if resource not in limits:
            yield f"no limit on {resource}"


def _exposure(service: Mapping[str, Any]) -> Iterator[str]:
    for port in service.get("ports", []):
        if not str(port).startswith("127.0.0.1:"):
            yield f"port {port} is published beyond this machine"
    if "docker.sock" in json.dumps(service.get("volumes", [])):
        yield "it is given the engine's socket"


def _secrets(service: Mapping[str, Any]) -> Iterator[str]:
    environment: Mapping[str, Any] = service.get("environment", {})
    for variable, value in environment.items():
        if variable != "NEXUS_AUTH" and _is_secret_name(variable) and not _is_required_variable(str(value)):
            yield f"{variable} must come from .env and be required: ${{NAME:?…}}"
    if _has_password_in_url(json.dumps(service, ensure_ascii=False)):
        yield "a URL holds a password"


def _order(service: Mapping[str, Any], services: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    health = service.get("healthcheck", {})
    if service.get("restart") != "no" and (not health.get("test") or health.get("disable")):
        yield "it has no health check"
    waits = service.get("depends_on", {})
    if not isinstance(waits, dict):
        yield "depends_on says no conditions"
        return
    for other, how in waits.items():
        runs_once = services.get(other, {}).get("restart") == "no"
        wanted = "service_completed_successfully" if runs_once else "service_healthy"
        if how.get("condition") != wanted:
            yield f"it does not wait until {other} has {wanted}"


def _example(compose: str, example: str) -> Iterator[str]:
    shown = dict(re.findall(r"^#?([A-Z0-9_]+)=(.*)$", example, re.MULTILINE))
    for name, required in _variables(compose):
        if name not in shown:
            yield f"{name}, which docker-compose.yml reads, is not in it"
        elif required and shown[name]:
            yield f"{name} has a value; a secret that is published is none"


def _ignored(root: Path) -> Iterator[str]:
    patterns = (root / ".dockerignore").read_text(encoding="utf-8").split("\n")
    if next((line for line in patterns if line and not line.startswith("#")), "") != "*":
        yield ".dockerignore: it does not begin by leaving everything out"
    for line in patterns:
        if line.startswith("!") and not (root / line[1:]).exists():
            yield f".dockerignore: {line}: there is no such file"


def _locks(root: Path) -> Iterator[str]:
    pinned = dict(_pins((root / LOCK).read_text(encoding="utf-8")))
    for file in DERIVED_LOCKS:
        for name, version in _pins((root / file).read_text(encoding="utf-8")):
            if pinned.get(name) != version:
                yield f"{file}: {name} {version} is not what {LOCK} has: run `make lock`"
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    runtime = dict(_pins((root / DERIVED_LOCKS[0]).read_text(encoding="utf-8")))
    for requirement in project["dependencies"]:
        name = re.split(r"[\s\[<>=!~;]", requirement, maxsplit=1)[0].lower()
        if name not in runtime:
            yield f"{DERIVED_LOCKS[0]}: {name} is missing: run `make lock`"


def _version(root: Path) -> str:
    return str(tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


if __name__ == "__main__":
    sys.exit(main())
