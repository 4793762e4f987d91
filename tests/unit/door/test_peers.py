"""By which address a caller is counted, whatever the caller writes: one count for each real peer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus_graph.door.peers import HOPS_MAX, NOWHERE, networks, peer_of

TRUSTED = networks(["10.0.0.0/8", "fd00::/8", "127.0.0.1/32"])
PROXY = "10.0.0.1"
CALLER = "198.51.100.7"


def told(forwarded_for: str | None = None, forwarded: str | None = None) -> dict[bytes, bytes]:
    given = {b"x-forwarded-for": forwarded_for, b"forwarded": forwarded}
    return {name: value.encode("latin-1") for name, value in given.items() if value is not None}


@pytest.mark.parametrize(
    ("address", "peer"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("::FFFF:c633:6407", "198.51.100.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:0DB8:0001:0002::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("", NOWHERE),
        ("/run/nexus.sock", NOWHERE),
        ("testclient", NOWHERE),
    ],
)
def test_without_proxies_it_is_the_connections_own(address: str, peer: str) -> None:
    forged = told("192.0.2.1", "for=192.0.2.1")
    assert peer_of(address, {}, ()) == peer
    assert peer_of(address, forged, ()) == peer
    assert peer_of(address, forged, networks(["203.0.113.0/24"])) == peer


@pytest.mark.parametrize(
    ("headers", "peer"),
    [
        # X-Forwarded-For: the first from the right that is no proxy of ours
        (told("198.51.100.7"), CALLER),
        (told("198.51.100.7:4711"), CALLER),
        (told("  198.51.100.7\t"), CALLER),
        (told("::ffff:198.51.100.7"), CALLER),
        (told("[::ffff:198.51.100.7]:80"), CALLER),
        (told("198.51.100.7, 10.9.9.9"), CALLER),
        (told("198.51.100.7,10.9.9.9,fd00::7, 127.0.0.1"), CALLER),
        (told("198.51.100.7, ::ffff:10.9.9.9"), CALLER),
        (told("192.0.2.1, 198.51.100.7"), CALLER),  # forged by the caller
        (told("10.0.0.9, 198.51.100.7"), CALLER),
        (told("127.0.0.1, 198.51.100.7, 10.0.0.2"), CALLER),
        (told("nonsense, 198.51.100.7"), CALLER),
        (told('", 198.51.100.7'), CALLER),
        (told("198.51.100.7, ,"), CALLER),
        (told(("192.0.2.1, " * 1_000) + "198.51.100.7"), CALLER),
        (told("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64"),
        (told("[2001:db8:1:2:3:4:5:6]:99"), "2001:db8:1:2::/64"),
        (told("2001:db8:1:2::1, 2001:db8:1:2::2"), "2001:db8:1:2::/64"),
        (told("10.1.1.1, 10.2.2.2"), "10.1.1.1"),  # a proxy calls by itself
        # and what cannot be read there
        ({}, PROXY),
        (told(""), PROXY),
        (told(" , "), PROXY),
        (told("unknown"), PROXY),
        (told("198.51.100.7, unknown"), PROXY),
        (told("198.51.100.7, unknown, 10.0.0.2"), PROXY),
        (told("198.51.100.07"), PROXY),
        (told("198.51.100"), PROXY),
        (told("3325256711"), PROXY),
        (told("0xc6336407"), PROXY),
        (told("198.51.100.7 10.0.0.2"), PROXY),
        (told("198.51.100.7:port"), PROXY),
        (told("198.51.100.7:123456"), PROXY),
        (told("fe80::1%eth0"), PROXY),
        (told("198.51.100.7\0"), PROXY),
        (told("\xb9\xb2.1.1.1"), PROXY),
        (told("caller.example"), PROXY),
        (told("198.51.100.7" + ", 10.0.0.2" * (HOPS_MAX + 1)), PROXY),
        # Forwarded
        (told(None, "for=198.51.100.7"), CALLER),
        (told(None, 'For="198.51.100.7:4711"'), CALLER),
        (told(None, "by=10.0.0.1; FOR=198.51.100.7 ;proto=https;host=a.example"), CALLER),
        (told(None, 'for=192.0.2.1;host="a, for=192.0.2.2", for=198.51.100.7, for=10.0.0.2'), CALLER),
        (told(None, 'for="198\\.51.100.7:_port"'), CALLER),
        (told(None, 'for="[2001:db8:1:2:3:4:5:6]:4711"'), "2001:db8:1:2::/64"),
        (told(None, 'for="[::ffff:198.51.100.7]"'), CALLER),
        (told(None, "for=198.51.100.7, "), CALLER),
        (told(None, 'nonsense", for=198.51.100.7'), CALLER),
        (told(None, 'for="nonsense, for=198.51.100.7'), CALLER),
        (told(None, 'for="[2001:db8::7]\\, for="[2001:db8:1:2::1]"'), "2001:db8:1:2::/64"),
        (told(None, "for=10.1.1.1"), "10.1.1.1"),
        # and what cannot be read there
        (told(None, ""), PROXY),
        (told(None, "for=unknown"), PROXY),
        (told(None, "for=_hidden"), PROXY),
        (told(None, "for=198.51.100.7, for=unknown, for=10.0.0.2"), PROXY),
        (told(None, "for=2001:db8::7"), PROXY),
        (told(None, 'for="2001:db8::7"'), PROXY),
        (told(None, "for=198.51.100.7;for=192.0.2.1"), PROXY),
        (told(None, "host=a.example"), PROXY),
        (told(None, "for"), PROXY),
        (told(None, "for="), PROXY),
        (told(None, "for = 198.51.100.7"), PROXY),
        (told(None, 'for="198.51.100.7'), PROXY),
        (told(None, "198.51.100.7"), PROXY),
        (told(None, "for=198.51.100.7;" + "," * 16_000), PROXY),
        (told(None, ('for="' + "\\" * 8_000) + '"'), PROXY),
        # Both: the caller may write the one that the proxy does not
        (told("198.51.100.7", "for=198.51.100.7"), CALLER),
        (told("198.51.100.7", "for=192.0.2.1"), PROXY),
        (told("192.0.2.1", "for=198.51.100.7"), PROXY),
        (told("198.51.100.7", "for=unknown"), PROXY),
        (told("198.51.100.7", ""), PROXY),
    ],
)
def test_behind_a_proxy_it_is_what_the_proxy_says(headers: dict[bytes, bytes], peer: str) -> None:
    assert peer_of(PROXY, headers, TRUSTED) == peer
    assert peer_of("::ffff:" + PROXY, headers, TRUSTED) == peer


@given(
    st.text(st.characters(max_codepoint=0xFF), max_size=60),
    st.one_of(st.just(""), st.sampled_from([", ", ",", " ,"])),
)
def test_nothing_that_a_caller_writes_ahead_of_the_proxy_matters(forged: str, comma: str) -> None:
    """The proxy adds an element of its own behind what the caller sent."""
    ahead = forged + (comma or ", ")
    assert peer_of(PROXY, told(ahead + CALLER), TRUSTED) == CALLER
    assert peer_of(PROXY, told(None, f"{ahead}for={CALLER}"), TRUSTED) == CALLER
    quoted = 'for="[2001:db8:1:2::9]:4711";proto=https'
    assert peer_of(PROXY, told(None, ahead + quoted), TRUSTED) == "2001:db8:1:2::/64"


@given(st.text(st.characters(max_codepoint=0xFF), max_size=60), st.text(st.characters(max_codepoint=0xFF), max_size=60))
def test_no_header_ends_in_an_error(forwarded_for: str, forwarded: str) -> None:
    assert peer_of(PROXY, told(forwarded_for, forwarded), TRUSTED)
