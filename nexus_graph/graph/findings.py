"""The findings of verify, as text and as JSON. They hold ids, never an email or a phone."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple


class Finding(NamedTuple):
    """One difference. `ref` is the id of a family or contact, else Neo4j's element id."""

    kind: Literal["family", "contact", "identifier", "tie", "node"]
    ref: int | str
    differs: tuple[str, ...]


@dataclass(slots=True)
class Report:
    """One pass of verify: how much was compared, and all that differs."""

    families: int = 0
    contacts: int = 0
    seconds: float = 0.0
    findings: list[Finding] = field(default_factory=list)
    complete: bool = True
    """False if one pass found more differences than it keeps."""

    @property
    def drift(self) -> int:
        return len(self.findings)

    def lines(self) -> Iterator[str]:
        """The report in words; the last line says how much drift there is."""
        for kind, ref, differs in self.findings:
            yield f"{kind} {ref}: {', '.join(differs)}"
        yield f"compared {self.families:,} families, {self.contacts:,} contacts in {self.seconds:.1f} s"
        yield f"drift {self.drift}" + ("" if self.complete else " or more")

    def as_json(self) -> dict[str, Any]:
        return {
            "drift": self.drift,
            "complete": self.complete,
            "families": self.families,
            "contacts": self.contacts,
            "seconds": round(self.seconds, 3),
            "findings": [{"kind": kind, "ref": ref, "differs": list(differs)} for kind, ref, differs in self.findings],
        }
