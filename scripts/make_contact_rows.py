"""Make a file of contact rows to import: invented people seen again and again, the same for every run.

    python scripts/make_contact_rows.py FILE.csv [--rows 1000000] [--news]

The rows are the benchmark's mix (bench/workload.py): half repeat what was said before, a quarter bring a
new identifier of somebody known, 15 % a new person, and a tenth name two families that are one. With --news every
row makes a contact: three in five bring a new person, the others a new identifier of one of them.
"""

import argparse
import csv
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.load.workload import FRESH, Pairing, Workload, preloaded

SEED: Final = 20260105
NEW_PEOPLE: Final = 0.6


def mixed(rows: int) -> Iterator[Pairing]:
    """The benchmark's mix, after one person to begin with."""
    workload = Workload(people=1, seed=SEED)
    yield from preloaded(1)
    for _ in range(rows - 1):
        request = workload.next()
        workload.acknowledge(request)
        yield request.pairing


def news(rows: int) -> Iterator[Pairing]:
    """Nothing twice: each row makes a contact."""
    dice = random.Random(SEED)
    people: list[Pairing] = []
    for number in range(FRESH, FRESH + rows):
        if not people or dice.random() < NEW_PEOPLE:
            people.append(Pairing(number, number))
            yield people[-1]
        else:
            person = people[int(dice.random() * len(people))]
            yield Pairing(person.email, number) if dice.random() < 0.5 else Pairing(number, person.phone)


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--news", action="store_true", help="every row makes a contact")
    options = parser.parse_args()
    pairings = news(options.rows) if options.news else mixed(options.rows)
    with options.file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("email", "phoneNumber"))
        writer.writerows(pairing.identifiers for pairing in pairings)


if __name__ == "__main__":
    main()
