"""Which document a request means: its text, the hash of one sent before, or the id of a trusted one.

Automatic persisted queries: a client sends a document once with its SHA-256, then the hash alone. Redis keeps the texts
for all processes, and each process keeps the most recent; if the text is in neither, the answer says so, and the client
sends the document again. Trusted documents: a file of all documents of an application, written by its build;
with `enforce` no other document is executed. A request names a trusted document by `documentId`, or by the hash that
names an automatic persisted query.
"""

import json
import re
from collections import OrderedDict
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from redis.asyncio import Redis

from nexus_graph.api.graphql.engine.documents import REMEMBERED_MAX
from nexus_graph.api.graphql.engine.refusal import refused
from nexus_graph.cache.documents import SharedDocuments
from nexus_graph.config import Settings
from nexus_graph.errors import Code
from nexus_graph.telemetry import log

_LOG = log("documents")
_APOLLO: Final = "apollo-persisted-query-manifest"
_is_hash = re.compile(r"[0-9a-f]{64}").fullmatch


class UnusableManifest(ValueError):
    """The file of trusted documents cannot be used; the message says why."""


class Persisted:
    """Finds the text of a document."""

    def __init__(self, settings: Settings) -> None:
        """Raises UnusableManifest."""
        self._settings = settings
        self._texts: OrderedDict[str, str] = OrderedDict()
        self._shared = SharedDocuments()
        self._trusted = {} if settings.trusted_documents is None else read_manifest(settings.trusted_documents)
        self._trusted_texts = frozenset(self._trusted.values())
        self._asks_for_trust = settings.trusted_documents_mode != "off"

    async def text(self, query: str | None, document_id: str | None, extensions: Any, redis: "Redis | None") -> str:
        """The document that a request means. Raises RequestError."""
        if document_id is not None:
            trusted = self._trusted.get(document_id.removeprefix("sha256:"))
            if trusted is None:
                raise refused(Code.DOCUMENT_NOT_FOUND, "no trusted document has this documentId")
            return trusted
        named = self._trusted.get(_hash_of(extensions).removeprefix("sha256:")) if self._trusted else None
        if named is not None and query in (None, named):
            return named
        digest = _digest(extensions) if extensions else None
        if query is None:
            if digest is None:
                raise refused(Code.BAD_REQUEST, "query must be a string")
            query = await self._remembered(digest, redis)
        elif digest is not None and sha256(query.encode()).hexdigest() != digest:
            raise refused(Code.BAD_USER_INPUT, "the query is not the one of this sha256Hash")
        if self._asks_for_trust and query not in self._trusted_texts:
            self._distrust(query)
        return query

    def keep(self, text: str, extensions: Any, redis: "Redis | None") -> None:
        """Remember a document that may be executed, if the request asks for that: here at once, in Redis soon."""
        if not extensions or text in self._trusted_texts or not self._settings.graphql_persisted:
            return
        digest = _digest(extensions)
        if digest is None or digest in self._texts:
            return
        self._remember(digest, text)
        if redis is not None:
            self._shared.keep(digest, text, redis)

    def _distrust(self, text: str) -> None:
        if self._settings.trusted_documents_mode == "enforce":
            raise refused(Code.DOCUMENT_NOT_TRUSTED, "only trusted documents are executed here: name one by documentId")
        _LOG.warning("document_not_trusted", sha256=sha256(text.encode()).hexdigest())

    async def _remembered(self, digest: str, redis: "Redis | None") -> str:
        if not self._settings.graphql_persisted:
            raise refused(Code.PERSISTED_QUERY_NOT_SUPPORTED, "PersistedQueryNotSupported")
        if digest in self._texts:
            self._texts.move_to_end(digest)
            return self._texts[digest]
        text = None if redis is None else await self._fetched(digest, redis)
        if text is None:
            raise refused(Code.PERSISTED_QUERY_NOT_FOUND, "PersistedQueryNotFound")
        self._remember(digest, text)
        return text

    async def _fetched(self, digest: str, redis: Redis) -> str | None:
        found = await self._shared.find(digest, redis)
        # A writer to Redis must not be able to change what a client asks.
        return found.decode() if found is not None and sha256(found).hexdigest() == digest else None

    def _remember(self, digest: str, text: str) -> None:
        self._texts[digest] = text
        if len(self._texts) > REMEMBERED_MAX:
            self._texts.popitem(last=False)


def read_manifest(path: Path) -> dict[str, str]:
    """The documents of the file by id, as graphql-codegen, Relay or Apollo writes it. Raises UnusableManifest."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnusableManifest(f"{path} cannot be read as JSON ({type(error).__name__})") from error
    if isinstance(found, dict) and found.get("format") == _APOLLO:
        found = _documents_of_apollo(found.get("operations"))
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise UnusableManifest(f"{path} is not an object of documents by id")
    return {document_id.removeprefix("sha256:"): text for document_id, text in found.items()}


def _documents_of_apollo(operations: object) -> dict[str, Any] | None:
    if not isinstance(operations, list):
        return None
    listed = [one for one in operations if isinstance(one, dict) and isinstance(one.get("id"), str)]
    return {one["id"]: one.get("body") for one in listed} if len(listed) == len(operations) else None


def _hash_of(extensions: dict[str, Any] | None) -> str:
    """`sha256Hash` of `extensions.persistedQuery`, "" if there is none. Of a trusted document it may be any id."""
    asked = (extensions or {}).get("persistedQuery")
    given = asked.get("sha256Hash") if isinstance(asked, dict) else None
    return given if isinstance(given, str) else ""


def _digest(extensions: dict[str, Any]) -> str | None:
    """The hash that the request names its document by; None if it names none. Raises RequestError."""
    asked = extensions.get("persistedQuery")
    if asked is None:
        return None
    digest = _hash_of(extensions)
    if not _is_hash(digest) or asked.get("version") != 1:
        message = "extensions.persistedQuery must have version 1 and a sha256Hash of 64 lower-case hex digits"
        raise refused(Code.BAD_USER_INPUT, message)
    return digest
