"""The shipped events are what the script makes, and nobody's."""

import csv
import subprocess
import sys
from pathlib import Path

import phonenumbers

from nexus_graph.demo.tour import EVENTS
from nexus_graph.identifiers.normalize import identify_request

_SCRIPT = Path(__file__).parents[3] / "scripts" / "make_demo_data.py"


def test_the_shipped_events_are_what_the_script_makes(tmp_path: Path) -> None:
    made = tmp_path / "events.csv"
    subprocess.run([sys.executable, str(_SCRIPT), str(made)], check=True, capture_output=True)
    assert made.read_bytes() == EVENTS.read_bytes()


def test_the_events_are_valid_and_in_the_order_of_time() -> None:
    with EVENTS.open(encoding="utf-8", newline="") as stream:
        events = list(csv.DictReader(stream))
    assert 2_900 <= len(events) <= 3_200
    assert [event["at"] for event in events] == sorted(event["at"] for event in events)
    for event in events:
        request = identify_request(event["email"], event["phoneNumber"], region=None, request_id=None)
        if request.email is not None:
            assert request.email.endswith((".example", "@example.com", "@example.net", "@example.org"))
        if request.phone is not None:
            assert phonenumbers.is_possible_number(phonenumbers.parse(request.phone, None))
