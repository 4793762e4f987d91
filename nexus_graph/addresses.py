"""Addresses of the servers for messages: each with the variable that names it, and never a password."""

import re
import socket
from typing import Final, Literal
from urllib.parse import parse_qs, urlsplit

from nexus_graph.config import Settings

Server = Literal["database_url", "database_direct_url", "database_replica_url", "redis_url", "neo4j_uri"]
"""The setting of a server's address; in capitals, the variable that sets it."""

_UNREADABLE: Final = "an address that cannot be read"
_is_host: Final = re.compile(r"(\[[0-9a-fA-F:.%]+\]|[\w.\-/]+)(:\d+)?").fullmatch


def is_of_this_machine(host: str) -> bool:
    """Tell whether a server could listen on this address or name."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
    except (OSError, UnicodeError):
        return False
    return True


def where(settings: Settings, server: Server) -> str:
    """The address of a server and its variable, as in `127.0.0.1:5432/nexus (DATABASE_URL)`."""
    value = getattr(settings, server)
    url = value if isinstance(value, str) else value.get_secret_value() if value is not None else ""
    variable = server.upper()
    if getattr(settings, f"{server}_file", None) is not None:
        variable += "_FILE"
    # The fields set are those given by the environment or by a data directory.
    if server not in settings.model_fields_set:
        variable += " is not set; this is the default"
    return f"{address(url)} ({variable})"


def address(url: str) -> str:
    """Host, port and database of a URL; none of them if a part could be a piece of a password."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return _UNREADABLE
    # An unescaped character in a password ends the host early; the rest of the password follows, with an @.
    if "@" in parts.path + parts.query + parts.fragment:
        return _UNREADABLE
    hosts = parts.netloc.rpartition("@")[2] or ",".join(parse_qs(parts.query).get("host", []))
    if not hosts or not all(_is_host(host) for host in hosts.split(",")):
        return _UNREADABLE
    return hosts + parts.path.rstrip("/")
