"""nexus-graph demo: load the events through identify, then show three families as the graph finds them."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.tree import Tree

from nexus_graph import telemetry
from nexus_graph.bulk.contacts import read_contacts
from nexus_graph.bulk.rows import open_rows
from nexus_graph.commands.files import load_contacts
from nexus_graph.config import Settings
from nexus_graph.demo.kinship import Kin, Pairing, kinship
from nexus_graph.errors import Unavailable
from nexus_graph.failures import say
from nexus_graph.graph.driver import ask, is_graphs_trouble
from nexus_graph.identity.families import WAIT_STEP_SECONDS, Families
from nexus_graph.identity.opening import Identity, open_identity
from nexus_graph.model import Family, FamilyKey, Source
from nexus_graph.statements import cypher

EVENTS: Final = Path(__file__).parent / "events.csv"
EXIT_AWAY: Final = 1
GRAPH_WAIT_SECONDS: Final = 60.0
"""Seconds for the relay to bring the families to the graph: the first plans of a new graph take some of them."""


@dataclass(frozen=True)
class Example:
    """A family to show: one of its emails, and the title of what it shows."""

    email: str
    title: str


CHAIN: Final = Example(
    "priya.raman@example.com", "A chain: each contact shares something with the next, the ends nothing"
)
UNION: Final = Example("jonas@lindqvist.example", "A union: two families, until one order named both")
SHARED_PHONE: Final = Example("amara.okafor@example.com", "A shared telephone: a household")
EXAMPLES: Final = (CHAIN, UNION, SHARED_PHONE)


def run(settings: Settings) -> int:
    """The command. Returns 0; the code of `load` if that failed; 1 if a store did not answer in time."""
    telemetry.configure_logging("ERROR")  # while the events load, a busy graph is expected
    console = Console(highlight=False)
    console.print("Half a year of contact events at seven invented shops, through identify:\n")
    code = load_contacts(settings, EVENTS, brief=True)
    if code:
        return code
    try:
        return asyncio.run(_show(settings, console))
    except Unavailable as error:
        say(error.message)
        return EXIT_AWAY


async def _show(settings: Settings, console: Console) -> int:
    """Raises Unavailable if the record does not answer, and what the driver raises if the graph does not."""
    pairings = _pairings(settings)
    async with open_identity(settings) as identity:
        deadline = monotonic() + GRAPH_WAIT_SECONDS
        for example in EXAMPLES:
            with console.status("waiting for the graph"):
                family = await family_in_graph(identity.families, example, deadline=deadline)
            if family is None:
                await identity.driver.verify_connectivity()  # raises if the graph is away
                say(
                    f"the graph has not caught up within {GRAPH_WAIT_SECONDS:g} s: does the relay run? "
                    "`nexus-graph doctor` says more"
                )
                return EXIT_AWAY
            console.print(f"\n[bold]{example.title}[/bold]")
            console.print(tree(kinship(family, pairings)))
            if example is UNION:
                union = family
        await _print_addresses(identity, settings, union, console)
    return 0


async def family_in_graph(families: Families, example: Example, *, deadline: float) -> Family | None:
    """The family in the graph, once as new as in the record; None if the deadline passes first.

    Raises Unavailable if the record does not answer.
    """
    key = FamilyKey("email", example.email)
    known = await families.family(key, source=Source.RECORD)
    if known is None:
        return None
    while True:
        try:
            family = await families.family(key, at_least=known.version, source=Source.GRAPH)
        except Unavailable:
            family = None
        if family is not None or monotonic() >= deadline:
            return family
        await asyncio.sleep(WAIT_STEP_SECONDS)


def tree(kin: Kin) -> Tree:
    """The family for a terminal."""
    branch = Tree(_label(kin, "primary"))
    _grow(branch, kin)
    return branch


def _grow(branch: Tree, kin: Kin) -> None:
    for below in kin.below:
        _grow(branch.add(_label(below, "secondary")), below)


def _label(kin: Kin, precedence: str) -> str:
    contact = kin.contact
    named = escape("  ".join(value for value in (contact.email, contact.phone) if value is not None))
    colour = "bold green" if precedence == "primary" else "cyan"
    return f"[{colour}]#{contact.id} {precedence}[/]  {named}" + (f"\n[dim]{escape(kin.tie)}[/dim]" if kin.tie else "")


def _pairings(settings: Settings) -> list[Pairing]:
    """The pairings of the file, in its order."""
    pairings = []
    with open_rows(EVENTS) as rows:
        for contact in read_contacts(rows, region=settings.phone_region, strict=True):
            for email, phone in contact.pairs:
                if email is not None and phone is not None:
                    pairings.append(Pairing(contact.line, email, phone))
    return pairings


async def _print_addresses(identity: Identity, settings: Settings, family: Family, console: Console) -> None:
    address = await _browser_address(identity, settings)
    where = "Neo4j Browser" if address is None else f"Neo4j Browser, http://{address}/browser/"
    console.print(f"\nThe union in {where} (nexus-graph status --json has the password):\n", soft_wrap=True)
    console.print(f"  {cypher_of(family)}", markup=False, soft_wrap=True)
    console.print("\nWhether the record and the graph agree, family by family: nexus-graph verify", soft_wrap=True)


def cypher_of(family: Family) -> str:
    """The query that shows the family in Neo4j Browser."""
    lines = cypher("show_family").splitlines()
    return " ".join(line for line in lines if not line.startswith("//")).replace("$id", str(family.id))


async def _browser_address(identity: Identity, settings: Settings) -> str | None:
    """The address of Neo4j Browser, as Neo4j returns it; None if Neo4j does not answer."""
    try:
        (address,) = await ask(identity.driver, "browser_address", {}, timeout_seconds=settings.graph_timeout_seconds)
    except Exception as error:
        if not is_graphs_trouble(error):
            raise
        return None
    return str(address)
