"""Another revision of the project, as files in a temporary folder and as the environment that runs its code."""

import io
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.gauges import CHECKOUT
from bench.plan import BenchError

GIT_TIMEOUT_SECONDS: Final = 60
IMPORT_TIMEOUT_SECONDS: Final = 60


@dataclass(frozen=True)
class Revision:
    """Code that can be run by this Python, with the packages that are installed here."""

    name: str
    """As it was asked for."""
    commit: str
    folder: Path

    @property
    def environment(self) -> Mapping[str, str]:
        """With these variables `python -m nexus_graph` runs the code of this revision, wherever it is started."""
        return {"PYTHONPATH": str(self.folder), "PYTHONSAFEPATH": "1"}


@contextmanager
def checked_out(name: str) -> Iterator[Revision]:
    """The revision in a folder of its own, for as long as it is measured. Raises BenchError if git does not know it."""
    commit = _git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", missing=name).decode().strip()
    with tempfile.TemporaryDirectory(prefix="nexus-bench-revision-", ignore_cleanup_errors=True) as folder:
        # An archive, not a worktree: nothing stays behind in the repository if this process is killed.
        with tarfile.open(fileobj=io.BytesIO(_git("archive", "--format=tar", commit, missing=name))) as files:
            files.extractall(folder, filter="data")
        revision = Revision(name, commit[:10], Path(folder))
        _check_that_it_runs(revision)
        yield revision


def _git(*arguments: str, missing: str) -> bytes:
    done = subprocess.run(
        ["git", *arguments], cwd=CHECKOUT, capture_output=True, timeout=GIT_TIMEOUT_SECONDS, check=False
    )
    if done.returncode:
        raise BenchError(f"there is no revision {missing} in {CHECKOUT}: {done.stderr.decode(errors='replace')[-300:]}")
    return done.stdout


def _check_that_it_runs(revision: Revision) -> None:
    """Raises BenchError unless Python, in the environment of this revision, imports the package from its folder."""
    done = subprocess.run(
        [sys.executable, "-c", "import nexus_graph.app; print(nexus_graph.__file__)"],
        env={**os.environ, **revision.environment},
        capture_output=True,
        text=True,
        timeout=IMPORT_TIMEOUT_SECONDS,
        check=False,
    )
    if done.returncode:
        raise BenchError(f"{revision.name} cannot be imported here: {done.stderr[-500:]}")
    if not Path(done.stdout.strip()).is_relative_to(revision.folder):
        raise BenchError(f"Python imports {done.stdout.strip()} in place of {revision.name}")
