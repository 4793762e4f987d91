"""Programs from outside Python that tests need: brought here from packages, or named at the end of a run as not run."""

import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from tempfile import gettempdir
from typing import Final, NoReturn

import pytest
from filelock import FileLock

LACKING: Final = "this machine lacks "
"""How the reason of every skipped test begins. The closing line of a run is made of these reasons."""
APT_TIMEOUT_SECONDS: Final = 300.0
"""For each of apt's two commands: a package list over a slow line takes a minute or two."""


def not_run(lacking: str, *, command: str) -> NoReturn:
    """Skip the test. `lacking`: what this machine has not; `command`: what brings it."""
    pytest.skip(f"{LACKING}{lacking} ({command})")


@cache
def debian_program(name: str) -> str:
    """The path of a program, installed by apt where this process may do so. Skips the test where it cannot be had."""
    with FileLock(Path(gettempdir()) / "nexus-tests-apt.lock"):  # apt serves one process at a time
        found = _found(name)
        if found is None and os.geteuid() == 0 and shutil.which("apt-get") is not None:
            _apt("update", "-qq")
            _apt("install", "-y", "-qq", "--no-install-recommends", name)
            found = _found(name)
    if found is None:
        not_run(name, command=f"as root: apt-get install --no-install-recommends {name}")
    return found


def closing_line(reasons: Iterable[str]) -> str | None:
    """One line that names every test that was not run, and what brings it; None if all were run."""
    counts = Counter(reasons)
    if not counts:
        return None
    named = [f"{count} {'test' if count == 1 else 'tests'}: {reason}" for reason, count in sorted(counts.items())]
    return f"not run: {'; '.join(named)}"


def _found(name: str) -> str | None:
    """The path of a program; servers stand in a folder that not everybody has on PATH."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"]))


def _apt(*arguments: str) -> None:
    """Ask apt. Whether it brought the program is seen by looking for the program."""
    command: Sequence[str] = ("apt-get", *arguments)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        subprocess.run(command, env=environment, capture_output=True, check=False, timeout=APT_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        print(f"{' '.join(command)} took longer than {APT_TIMEOUT_SECONDS:g} s")
