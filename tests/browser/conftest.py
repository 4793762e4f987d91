"""A browser from npm's package, or the machine's own where that package has none for it."""

import os
import platform
import shutil
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest
from playwright.async_api import Browser, BrowserContext, async_playwright

from tests.stage.commands import npm_installed, told
from tests.stage.equipment import not_run
from tests.stage.running import ApiServer

_QUIET: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_FONTS: Final = """<?xml version="1.0"?>
<fontconfig>
  <dir>{folder}/fonts</dir>
  <dir>/usr/share/fonts</dir>
  <cachedir>{folder}/fonts-cache</cachedir>
</fontconfig>
"""


@dataclass(frozen=True)
class Chromium:
    """A browser to start: its program, and the environment that it needs."""

    program: str
    environment: dict[str, str]


@pytest.fixture(scope="session")
async def chromium() -> AsyncIterator[Chromium]:
    """Chromium, unpacked for this run; the machine's own where npm's package has none for this machine."""
    if (sys.platform, platform.machine()) == ("linux", "x86_64"):
        package = await npm_installed(Path(__file__).parent / "chromium")
        with TemporaryDirectory(prefix="nexus-chromium-") as folder:
            yield await _unpacked(package, Path(folder))
        return
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        not_run("a browser", command="install chromium, so that it is on PATH")
    yield Chromium(program, dict(os.environ))


@pytest.fixture
async def browser(chromium: Chromium) -> AsyncIterator[Browser]:
    """The browser, started."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium.program, args=_QUIET, env=dict(chromium.environment)
        )
        yield browser
        await browser.close()


@pytest.fixture
async def context(browser: Browser, server: ApiServer) -> BrowserContext:
    """A browser that knows nothing yet, at the API."""
    return await browser.new_context(base_url=server.url, viewport={"width": 1600, "height": 900})


async def _unpacked(package: Path, folder: Path) -> Chromium:
    environment = {"TMPDIR": str(folder), "AWS_EXECUTION_ENV": "AWS_Lambda_nodejs24.x"}
    printed = await told("node", "unpack.js", cwd=package, env=environment)
    fonts = folder / "fonts.conf"
    fonts.write_text(_FONTS.format(folder=folder), encoding="utf-8")
    libraries = os.pathsep.join([str(folder / "al2023" / "lib"), os.environ.get("LD_LIBRARY_PATH", "")])
    return Chromium(
        printed.strip(),
        {**os.environ, "LD_LIBRARY_PATH": libraries.rstrip(os.pathsep), "FONTCONFIG_FILE": str(fonts)},
    )
