"""Keep the families that changed last in the shared cache, under everything that they can be asked by."""

from collections.abc import Callable
from typing import Final

from nexus_graph.cache.memory import FAMILY_CONTACTS_MAX
from nexus_graph.cache.shared import SharedFamilies
from nexus_graph.model import Family
from nexus_graph.statements import sql
from nexus_graph.store.database import Pool

FAMILIES_MAX: Final = 10_000
"""Families that `nexus-graph cache warm` keeps: those that changed last."""


_BATCH = 500
_EVENTS_A_FAMILY = 4
"""How far to look back: families have more events than one."""


async def warm(pool: Pool, shared: SharedFamilies, *, progress: Callable[[int], None] = lambda _: None) -> int:
    """How many families were kept. Raises what the database's driver raises."""
    ids = [row[0] for row in await pool.fetch(sql("families_newest"), FAMILIES_MAX * _EVENTS_A_FAMILY, FAMILIES_MAX)]
    kept = 0
    for start in range(0, len(ids), _BATCH):
        for row in await pool.fetch(sql("family_of_contact"), ids[start : start + _BATCH]):
            family = Family.of_columns(*row[1:])
            if len(family.contacts) <= FAMILY_CONTACTS_MAX:
                shared.keep(list(family.known_by()), family)
                kept += 1
            progress(len(family.contacts))
        await shared.written()
        if shared.is_away:
            break
    return kept
