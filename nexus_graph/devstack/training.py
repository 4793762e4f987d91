"""The training of a throw-away Neo4j that records its work for the archive: the statements of the relay and the
readers, often enough that the recording shows the hot code, and a few statements as analysts write them.
"""

from collections.abc import Iterator

from neo4j import AsyncDriver, Query
from neo4j.exceptions import DriverError, Neo4jError
from pydantic import SecretStr

from nexus_graph.config import Settings
from nexus_graph.devstack.process import StackError
from nexus_graph.graph.comparison import read_shown
from nexus_graph.graph.driver import ask, ensure_constraints, open_driver
from nexus_graph.graph.projection import project
from nexus_graph.graph.states import FamilyState
from nexus_graph.statements import cypher
from nexus_graph.telemetry import error_name

ROUNDS = 200
FAMILIES = 100  # of a batch
GROWTH = 8  # a family has this many contacts when it is merged into its neighbour
PATIENCE_SECONDS = 120.0  # a cold server is slow in idle processor time


async def train(uri: str, user: str, password: str) -> None:
    """Run all statements. Raises StackError if the server does not answer."""
    settings = Settings(
        neo4j_uri=uri,
        neo4j_user=user,
        neo4j_password=SecretStr(password),
        graph_timeout_seconds=PATIENCE_SECONDS,
        graph_write_timeout_seconds=PATIENCE_SECONDS,
    )
    driver = open_driver(settings)
    try:
        await ensure_constraints(driver)
        for number, states in enumerate(_batches()):
            await project(driver, states, settings)
            await _read(driver, states)
            if number % 10 == 0:
                await read_shown(driver, states)
        for statement in _as_analysts_write():
            await driver.execute_query(Query(statement))
    except (DriverError, Neo4jError) as error:
        raise StackError(f"the server in training failed ({error_name(error)})") from error
    finally:
        await driver.close()


async def _read(driver: AsyncDriver, states: list[FamilyState]) -> None:
    keys = {
        "contacts": [state["id"] for state in states[::4]],
        "emails": [state["emails"][-1] for state in states[::5] if state["live"]],
        "phones": [state["phones"][0] for state in states[::6] if state["live"]],
    }
    await ask(driver, "families", keys, timeout_seconds=PATIENCE_SECONDS)


def _batches() -> Iterator[list[FamilyState]]:
    """Families that are born, grow by a contact each round, and are merged two by two."""
    for number in range(ROUNDS):
        generation, age = divmod(number, GROWTH + 1)
        first = 1 + generation * FAMILIES
        if age < GROWTH:
            yield [_family(first + place, version=number, size=1 + age) for place in range(FAMILIES)]
        else:
            yield [
                _family(first + place, version=number, size=0 if place % 2 else 2 * GROWTH) for place in range(FAMILIES)
            ]


def _family(family: int, *, version: int, size: int) -> FamilyState:
    """A family with its contacts, the last ones lent by its odd neighbour; evidence alone ties every third contact."""
    lent = range(GROWTH, size)
    ids = [family + 1_000_000 * place for place in range(min(size, GROWTH))]
    ids += [family + 1 + 1_000_000 * (place - GROWTH) for place in lent]
    born = version - min(size - 1, GROWTH)
    moments = [born + place for place in range(len(ids) - len(lent))] + [version] * len(lent)
    pairs = [[f"e{ids[0]}@train.example", f"+1{contact}"] for contact in ids[2::3]]
    return FamilyState(
        id=family,
        live=size > 0,
        version=version,
        size=size,
        ids=ids,
        emails=[f"e{ids[0] if place % 2 else contact}@train.example" for place, contact in enumerate(ids)],
        phones=[f"+1{contact}" if place % 2 or place == 0 else None for place, contact in enumerate(ids)],
        micros=[1_790_000_000_000_000 + contact for contact in ids],
        joined=moments,
        pairs=pairs,
        tie_micros=[1_790_000_000_000_000] * len(pairs),
        tie_requests=[None] * len(pairs),
        event_seqs=[version, version - 1],
        event_kinds=["families_merged" if lent else "contact_linked", "contact_linked"],
        event_micros=[version, version - 1],
    )


def _as_analysts_write() -> Iterator[str]:
    text = "\n".join(line for line in cypher("training").splitlines() if not line.startswith("//"))
    return (statement for statement in text.split(";") if statement.strip())
