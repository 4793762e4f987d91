"""npm's packages, as the lock files say, installed once a session."""

from pathlib import Path

import pytest

from tests.stage.commands import npm_installed


@pytest.fixture(scope="session")
async def judges() -> Path:
    """The folder of what judges the API from outside."""
    return await npm_installed(Path(__file__).parent)


@pytest.fixture(scope="session")
async def typescript(project: Path) -> Path:
    """The example in TypeScript."""
    return await npm_installed(project / "examples" / "typescript")
