"""The active relay's watch over the graph: it puts constraints back, and says once what only a command can mend."""

from typing import Final, get_args

from neo4j import AsyncDriver

from nexus_graph import telemetry
from nexus_graph.config import Settings
from nexus_graph.errors import Unavailable
from nexus_graph.graph.driver import ensure_constraints
from nexus_graph.graph.extent import REBUILD, Gap, Lack, gap, missing_schema
from nexus_graph.store.database import Pool

_LACKS: Final[tuple[Lack, ...]] = get_args(Lack)
_LOG = telemetry.log("relay")


class Watch:
    """Looks at the graph when asked, remembers what it found, and logs a change once."""

    def __init__(self, pool: Pool, driver: AsyncDriver, settings: Settings) -> None:
        self._pool = pool
        self._driver = driver
        self._settings = settings
        self._said: tuple[Lack, str] | None = None
        self._known = True

    async def look(self) -> None:
        """Look once, and put back missing constraints: without them the graph gets two nodes where one belongs.

        Raises nothing: the relay goes on, and the next look may do better.
        """
        try:
            self._note(await self._found())
        except Exception as error:  # noqa: BLE001 - as said
            if self._known:
                _LOG.warning("graph_extent_unknown", error=telemetry.error_name(error))
            self._known = False
        else:
            self._known = True

    def close(self) -> None:
        """This relay no longer looks: another one's gauges count."""
        self._show(None)

    async def _found(self) -> Gap | None:
        if missing := await missing_schema(self._driver):
            try:
                await ensure_constraints(self._driver)
            except Unavailable:
                reason = f"lacks its constraints or indexes on {', '.join(missing)} and holds duplicates"
                return Gap("constraints", reason, f"run `{REBUILD}`")
            _LOG.warning("constraints_restored", restored=missing)
        return await gap(self._driver, self._pool, self._settings)

    def _note(self, found: Gap | None) -> None:
        self._show(found)
        say = None if found is None else (found.lack, found.next_step)
        if say == self._said:
            return
        self._said = say
        if found is None:
            _LOG.info("graph_whole")
        else:
            _LOG.warning("graph_incomplete", lack=found.lack, reason=found.reason, next_step=found.next_step)

    @staticmethod
    def _show(found: Gap | None) -> None:
        for lack in _LACKS:
            telemetry.GRAPH_INCOMPLETE.labels(lack).set(found is not None and found.lack == lack)
