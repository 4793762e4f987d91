"""Make docs/images/family.png: one family of the demonstration, as Neo4j Browser shows it.

    nexus-graph up            # in another terminal
    nexus-graph demo
    python scripts/picture_of_family.py [--data-dir .nexus] [--output docs/images/family.png]

Needs Chromium (Debian: chromium). It is driven over a pipe, so nothing listens and nothing else is installed.
"""

import argparse
import asyncio
import base64
import fcntl
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from math import log2
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Final

from nexus_graph.config import Settings
from nexus_graph.demo.tour import UNION, cypher_of
from nexus_graph.devstack.status import read_status
from nexus_graph.identity.opening import open_identity
from nexus_graph.model import Family, FamilyKey, Source

ROOT: Final = Path(__file__).parent.parent
STYLE: Final = ROOT / "nexus_graph" / "api" / "neo4j_browser" / "nexus.grass"
PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome")
FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
WIDTH, HEIGHT, PIXELS_PER_POINT = 1020, 730, 2
WAIT_MAX_SECONDS: Final = 60.0
SCALE: Final = 0.84
"""How large the nodes are, against what the style says."""
STILL_SECONDS: Final = 1.0
"""The nodes have come to rest when none moved for this long."""
NEAR_ENOUGH: Final = 8.0
"""A node this close to its place is left there: a shorter drag would be a click."""

# Where the nodes go: an email or a phone by its value, a contact by both. The union is the arrow in the middle.
PLACES: Final = {
    "+46701740612": (165, 165),
    "jonas.l@example.net +46701740612": (165, 380),
    "jonas.l@example.net": (165, 615),
    "jonas@lindqvist.example +46701740612": (390, 280),
    "jonas@lindqvist.example": (380, 570),
    "+46846500421": (655, 625),
    "jonas@kingfisher.example +46846500421": (615, 450),
    "depot@kingfisher.example +46846500421": (850, 440),
    "depot@kingfisher.example": (850, 635),
    "jonas@kingfisher.example": (805, 290),
    "jonas@kingfisher.example +46701740698": (590, 155),
    "+46701740698": (885, 135),
}

NODES: Final = """
[...document.querySelectorAll('svg g.node')].map(node => {
  const circle = node.querySelector('circle').getBoundingClientRect(), data = node.__data__.propertyMap
  return [data.value || `${data.email} ${data.phoneNumber}`, circle.x + circle.width / 2, circle.y + circle.height / 2]
})
"""
SCALE_NOW: Final = """
(node => node.querySelector('circle').getBoundingClientRect().width / node.__data__.radius / 2)
  (document.querySelector('svg g.node'))
"""


class PictureFailed(Exception):
    """The browser did not show what was waited for."""


class Page:
    """A page of a Chromium that is driven over its debugging pipe."""

    def __init__(self, requests: int, answers: int) -> None:
        self._requests = requests
        self._answers = answers
        self._received = b""
        self._calls = 0
        self._session: str | None = None

    def attach(self) -> None:
        """Open a tab and talk to it from now on."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """What the browser answers. Raises PictureFailed if it refuses or goes away."""
        self._calls += 1
        message: dict[str, Any] = {"id": self._calls, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._requests, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._calls:
                if "error" in answer:
                    raise PictureFailed(f"{method}: {answer['error']['message']}")
                result: dict[str, Any] = answer["result"]
                return result

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise PictureFailed(str(result["exceptionDetails"].get("exception", {}).get("description")))
        return result["result"].get("value")

    def wait_for(self, script: str, what: str) -> Any:
        """The first true value of the expression. Raises PictureFailed if there is none in time."""
        deadline = monotonic() + WAIT_MAX_SECONDS
        while not (value := self.evaluate(script)):
            if monotonic() > deadline:
                raise PictureFailed(f"Neo4j Browser never showed {what}")
            sleep(0.1)
        return value

    def type_into(self, selector: str, text: str) -> None:
        """Put text into a field as a person would: through the keyboard, so that the page notices."""
        self.wait_for(f"!!document.querySelector({json.dumps(selector)})", selector)
        self.evaluate(
            f"(e => {{ e.focus(); e.select && e.select(); }})(document.querySelector({json.dumps(selector)}))"
        )
        self.call("Input.insertText", text=text)

    def click(self, selector: str) -> None:
        """Click the first element that the selector finds, once there is one."""
        self.wait_for(f"!!document.querySelector({json.dumps(selector)})", selector)
        self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drag with the mouse; from a point to itself is a click."""
        self._mouse("mousePressed", start)
        for share in (0.3, 0.7, 1.0):
            self._mouse("mouseMoved", (_between(start[0], end[0], share), _between(start[1], end[1], share)))
        self._mouse("mouseReleased", end)

    def zoom(self, place: tuple[float, float], factor: float) -> None:
        """Zoom about a place with the wheel: a thousand of its units double the size."""
        self.call(
            "Input.dispatchMouseEvent",
            type="mouseWheel",
            x=place[0],
            y=place[1],
            deltaX=0,
            deltaY=-1_000 * log2(factor),
        )

    def _mouse(self, kind: str, place: tuple[float, float]) -> None:
        self.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", buttons=1, clickCount=1)

    def picture(self) -> bytes:
        """The page as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png", optimizeForSpeed=False)["data"])

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._received:
            piece = os.read(self._answers, 1 << 20)
            if not piece:
                raise PictureFailed("Chromium went away")
            self._received += piece
        message, _, self._received = self._received.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer


def main() -> int:
    """Make the picture; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=Path(".nexus"))
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "images" / "family.png")
    options = parser.parse_args()
    status = read_status(options.data_dir)
    if status is None:
        print(f"no stack runs in {options.data_dir}: start one with nexus-graph up", file=sys.stderr)
        return 2
    try:
        family = asyncio.run(_family(status))
        with _chromium() as page:
            _connect(page, status)
            _show(page, family)
            _arrange(page)
            picture = page.picture()
    except PictureFailed as error:
        print(error, file=sys.stderr)
        return 1
    options.output.write_bytes(picture)
    print(f"{options.output}: {len(picture) / 1000:.0f} kB")
    return 0


async def _family(status: dict[str, Any]) -> Family:
    names = ("database_url", "redis_url", "neo4j_uri", "neo4j_user", "neo4j_password")
    async with open_identity(Settings(**{name: status[name] for name in names})) as identity:
        family = await identity.families.family(FamilyKey("email", UNION.email), source=Source.GRAPH)
    if family is None:
        raise PictureFailed("the graph has no such family: load the demonstration with nexus-graph demo")
    return family


def _connect(page: Page, status: dict[str, Any]) -> None:
    page.call(
        "Emulation.setDeviceMetricsOverride",
        width=WIDTH,
        height=HEIGHT,
        deviceScaleFactor=PIXELS_PER_POINT,
        mobile=False,
    )
    page.call("Page.navigate", url=status["neo4j_browser"])
    page.type_into("[data-testid=password]", status["neo4j_password"])
    page.click("[data-testid=connect]")
    page.wait_for("!document.querySelector('[data-testid=disconnectedBanner]')", "that it is connected")
    page.wait_for(_frame_begins(":play"), "its welcome")


def _show(page: Page, family: Family) -> None:
    """Run the query, in a frame that fills the page, in our colours."""
    _run(page, ":style " + " ".join(STYLE.read_text(encoding="utf-8").split()))
    _run(page, cypher_of(family))
    page.click("[data-testid=frame]:has(svg g.node) button[title=Fullscreen]")
    page.click("button[aria-label='Collapse the node properties display']")
    page.wait_for(f"document.querySelectorAll('svg g.node').length === {len(PLACES)}", "the family")


def _run(page: Page, command: str) -> None:
    """Run a command in the editor, and wait for its frame."""
    page.type_into("[data-testid=activeEditor] textarea", command)
    page.wait_for("document.querySelector('[data-testid=activeEditor] .view-lines').innerText.trim()", "the command")
    page.click("[data-testid=editor-Run]")
    page.wait_for(_frame_begins(command[:20]), f"a frame for {command[:20]}")


def _frame_begins(command: str) -> str:
    return (
        "[...document.querySelectorAll('[data-testid=frameCommand]')]"
        f".some(frame => frame.innerText.replace(/\\s+/g, ' ').includes({json.dumps(command)}))"
    )


def _arrange(page: Page) -> None:
    """Drag the nodes to their places, close up, and leave none selected."""
    nodes = _nodes_at_rest(page)
    if nodes.keys() != PLACES.keys():
        raise PictureFailed("the family is not the one that has places here: is the demonstration data changed?")
    centre: list[float] = page.evaluate(
        "(view => [view.x + view.width / 2, view.y + view.height / 2])"
        "(document.querySelector('svg.neod3viz').getBoundingClientRect())"
    )
    # While all are in view, to where they will be near their places once we are closer.
    closer = SCALE / page.evaluate(SCALE_NOW)
    for name, (x, y) in PLACES.items():
        page.drag(_nodes(page)[name], (_between(centre[0], x, 1 / closer), _between(centre[1], y, 1 / closer)))
    page.zoom((centre[0], centre[1]), closer)
    _nodes_at_rest(page)
    for name, place in PLACES.items():
        node = _nodes(page)[name]
        if max(abs(node[0] - place[0]), abs(node[1] - place[1])) > NEAR_ENOUGH:
            page.drag(node, place)
    page.drag((centre[0], HEIGHT - 10), (centre[0], HEIGHT - 10))
    _nodes_at_rest(page)


def _nodes_at_rest(page: Page) -> dict[str, tuple[float, float]]:
    deadline = monotonic() + WAIT_MAX_SECONDS
    before: dict[str, tuple[float, float]] = {}
    while (nodes := _nodes(page)) != before:
        if monotonic() > deadline:
            raise PictureFailed("the nodes never came to rest")
        before = nodes
        sleep(STILL_SECONDS)
    return nodes


def _nodes(page: Page) -> dict[str, tuple[float, float]]:
    """Where each node is on the page."""
    return {name: (round(x), round(y)) for name, x, y in page.evaluate(NODES)}


def _between(start: float, end: float, share: float) -> float:
    return start + (end - start) * share


@contextmanager
def _chromium() -> Iterator[Page]:
    """A page of a browser with a profile of its own; both are gone afterwards. Raises PictureFailed."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        raise PictureFailed("Chromium is not installed (Debian: apt-get install chromium)")
    with tempfile.TemporaryDirectory() as profile:
        (their_requests, our_requests), (our_answers, their_answers) = os.pipe(), os.pipe()
        # Out of the way of 3 and 4, where Chromium looks for its pipes.
        spare = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (their_requests, their_answers)]
        process = os.posix_spawn(
            program,
            [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
                (os.POSIX_SPAWN_DUP2, spare[0], 3),
                (os.POSIX_SPAWN_DUP2, spare[1], 4),
            ],
            setpgroup=0,
        )
        for end in (their_requests, their_answers, *spare):
            os.close(end)
        try:
            page = Page(our_requests, our_answers)
            page.attach()
            yield page
        finally:
            os.killpg(process, signal.SIGKILL)
            os.waitpid(process, 0)
            os.close(our_requests)
            os.close(our_answers)


if __name__ == "__main__":
    sys.exit(main())
