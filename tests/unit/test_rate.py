"""Rates as people write them."""

import os

import pytest

from nexus_graph.config import RATES, Settings
from nexus_graph.door.permissions import Role
from nexus_graph.rate import Rate, parse_rate
from nexus_graph.variables import UnusableSettings, read_settings


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100/minute", Rate(100, 60)),
        ("1/second", Rate(1, 1)),
        (" 5000 / 30 Minutes ", Rate(5_000, 1_800)),
        ("10/s", Rate(10, 1)),
        ("10/15m", Rate(10, 900)),
        ("24/24h", Rate(24, 86_400)),
        ("1000000000/30d", Rate(1_000_000_000, 30 * 86_400)),
        ("off", None),
        ("OFF", None),
    ],
)
def test_a_rate_is_an_amount_and_a_time(text: str, rate: Rate | None) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text",
    [
        "", "100", "100/", "/minute", "100/fortnight", "0/minute", "-1/minute", "1.5/minute", "1e3/minute", "100/0m",
        "1000000001/minute", "1/31d", "100/minute,10/second", "\N{ARABIC-INDIC DIGIT ONE}/minute", "100/m m",
        "100/minuteminute", "none", "100//m", "9" * 40 + "/minute", "1/" + "9" * 40 + "s",
    ],
)  # fmt: skip
def test_anything_else_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="must be an amount"):
        parse_rate(text)


def test_every_role_has_a_rate() -> None:
    assert list(RATES) == [role.value for role in Role]
    assert Settings().rate_limits == RATES


def test_the_limits_of_some_roles_leave_the_others_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXUS_RATE_LIMITS", '{"service": "120000/minute", "admin": "off"}')
    assert Settings().rate_limits == {**RATES, "service": "120000/minute", "admin": "off"}


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("service=1/s", "must be limits by role in JSON"),
        ('{"service": 5}', "must be limits by role in JSON"),
        ('["service"]', "must be limits by role in JSON"),
        ("[" * 100_000, "must be limits by role in JSON"),
        ('{"services": "1/s"}', "names 1 unknown roles; the roles are reader, service"),
        ('{"service": "many"}', "must be an amount and a time"),
    ],
)
def test_other_limits_of_roles_are_refused(monkeypatch: pytest.MonkeyPatch, given: str, why: str) -> None:
    monkeypatch.setenv("NEXUS_RATE_LIMITS", given)
    with pytest.raises(UnusableSettings, match=why):
        read_settings(os.environ)


def test_proxies_are_addresses_and_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEXUS_TRUSTED_PROXIES", "10.0.0.7, 192.168.0.0/16 fd00::/8")
    assert Settings().trusted_proxies == ("10.0.0.7/32", "192.168.0.0/16", "fd00::/8")
    for wrong in ("proxy.example", "10.0.0.1/8", "10.0.0.0/33", "*"):
        monkeypatch.setenv("NEXUS_TRUSTED_PROXIES", wrong)
        with pytest.raises(UnusableSettings, match="must be addresses and networks"):
            read_settings(os.environ)
