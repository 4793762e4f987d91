"""The address that a caller without credentials is counted by.

It is the connection's own address, unless that is a proxy of NEXUS_TRUSTED_PROXIES: then it is what the proxies say,
read from the right, as each adds the address that it was called from and callers can write only what stands further
left. The first address from the right that is no trusted proxy is the caller's. Where what the proxies say cannot be
read, or `X-Forwarded-For` and `Forwarded` contradict each other, the proxy's own address stands for the caller: all
such callers share one limit, so nobody gains by writing nonsense.

An IPv6 address counts by its /64, which one subscriber has to itself; an IPv4 address in IPv6 writing counts as IPv4.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

HOPS_MAX: Final = 32
"""Proxies that a request may have passed; with more, what they say counts as unreadable."""

NOWHERE: Final = "unknown"
"""Counted by this: callers whose connection has no address, as on a Unix socket."""

_REMEMBERED: Final = 4_096
_PREFIX: Final = 64

_with_port = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+))(?::[0-9]{1,5})?").fullmatch
_node_with_port = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+))(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]+))?").fullmatch

_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - as RFC 9110 calls it
_QUOTED: Final = r'"(?:[^"\\]|\\.)*"'
_PAIR: Final = rf"({_TOKEN})=({_TOKEN}|{_QUOTED})"
_is_element = re.compile(rf"[ \t]*{_PAIR}(?:[ \t]*;[ \t]*{_PAIR})*[ \t]*").fullmatch
_pairs = re.compile(_PAIR).findall


class _Unreadable(ValueError):
    """A proxy's words are none that this module knows."""


def networks(listed: Sequence[str]) -> tuple[Network, ...]:
    """The networks of NEXUS_TRUSTED_PROXIES."""
    return tuple(ip_network(one) for one in listed)


def peer_of(address: str, headers: Mapping[bytes, bytes], trusted: Sequence[Network]) -> str:
    """What the caller counts by: an IPv4 address, an IPv6 network of /64, or `NOWHERE`.

    `address` is the connection's other end. `headers` are the request's by name in lower case, the lines of one name
    joined by commas.
    """
    address = address.partition("%")[0]
    nearest = _read(address) if trusted else None
    if nearest is None or not _is_trusted(nearest, trusted):
        return _counted_by(address)
    try:
        callers = {_first_untrusted(hops, trusted) for hops in _told(headers)}
    except _Unreadable:
        return _counted_by(address)
    return _counted_by(str(callers.pop())) if len(callers) == 1 else _counted_by(address)


def _told(headers: Mapping[bytes, bytes]) -> Iterator[Iterator[Address]]:
    """The addresses that each header names, from the right."""
    if (listed := headers.get(b"x-forwarded-for")) is not None:
        yield _hops_of_list(listed.decode("latin-1"))
    if (listed := headers.get(b"forwarded")) is not None:
        yield _hops_of_forwarded(listed.decode("latin-1"))


def _first_untrusted(hops: Iterator[Address], trusted: Sequence[Network]) -> Address:
    """The last one if all are trusted: a proxy that calls by itself."""
    hop = None
    for count, hop in enumerate(hops):
        if not _is_trusted(hop, trusted):
            return hop
        if count == HOPS_MAX:
            raise _Unreadable
    if hop is None:
        raise _Unreadable
    return hop


def _hops_of_list(listed: str) -> Iterator[Address]:
    """Of X-Forwarded-For: addresses, with ports or without."""
    while listed:
        listed, _, hop = listed.rpartition(",")
        if hop := hop.strip(" \t"):
            yield _address(hop, _with_port(hop))


def _hops_of_forwarded(listed: str) -> Iterator[Address]:
    """Of Forwarded (RFC 7239). An element is the shortest end of the list that can be one: what a caller wrote further
    left, such as a quotation mark without its pair, does not reach what a proxy added.
    """
    end = len(listed)
    while end > 0:
        start = end
        for _ in range(HOPS_MAX):
            start = listed.rfind(",", 0, start)
            element = listed[start + 1 : end]
            if start < 0 or not element.strip(" \t") or _is_element(element):
                break
        if element.strip(" \t"):
            yield _client(element)
        end = start


def _client(element: str) -> Address:
    if _is_element(element) is None:
        raise _Unreadable
    named = [value for name, value in _pairs(element) if name.lower() == "for"]
    if len(named) != 1:
        raise _Unreadable
    node = re.sub(r"\\(.)", r"\1", named[0][1:-1]) if named[0].startswith('"') else named[0]
    return _address("", _node_with_port(node))


def _address(text: str, with_port: re.Match[str] | None) -> Address:
    found = _read(text if with_port is None else with_port[1] or with_port[2])
    if found is None:
        raise _Unreadable
    return found


def _is_trusted(address: Address, trusted: Sequence[Network]) -> bool:
    return any(address in network for network in trusted)


def _read(text: str) -> Address | None:
    """The address of this text, an IPv4 one where IPv6 only carries it; None if there is none, or it names a zone."""
    try:
        address = ip_address(text if "%" not in text else "")
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


@lru_cache(maxsize=_REMEMBERED)
def _counted_by(address: str) -> str:
    found = _read(address)
    if found is None:
        return NOWHERE
    return str(found) if isinstance(found, IPv4Address) else str(IPv6Network((int(found), _PREFIX), strict=False))
