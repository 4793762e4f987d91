"""Another revision of the project."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.plan import BenchError
from bench.revision import checked_out


def test_python_runs_the_code_of_the_revision_from_any_folder(project: Path) -> None:
    with checked_out("HEAD") as revision:
        found = subprocess.run(
            [sys.executable, "-c", "from nexus_graph import statements; print(statements.MIGRATIONS)"],
            cwd=project,
            env={**os.environ, **revision.environment},
            capture_output=True,
            text=True,
            check=True,
        )
        assert Path(found.stdout.strip()) == revision.folder / "schema" / "migrations"
        assert (revision.folder / "schema" / "migrations").is_dir()
    assert not revision.folder.exists()


def test_a_revision_that_is_not_there_is_named() -> None:
    with pytest.raises(BenchError, match="there is no revision no-such-revision"), checked_out("no-such-revision"):
        pass
