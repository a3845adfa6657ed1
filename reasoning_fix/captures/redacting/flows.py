"""Flows made anew from what may be shared of them; nothing is taken over that is not named here.

Only chat requests of known providers are kept, as the client sent them. Headers, addresses, certificates,
comments and notes are left out or replaced; times stay, since their order is what a replay goes by.
"""

import re
from collections.abc import Sequence

import msgspec
from mitmproxy import connection, flow, http

from reasoning_fix.captures.redacting.bodies import Bodies
from reasoning_fix.captures.redacting.pseudonyms import Pseudonyms
from reasoning_fix.engine import policy
from reasoning_fix.providers.table import Table
from reasoning_fix.proxy import callers, metadata
from reasoning_fix.proxy.chat_request import ChatRequest, chat_request
from reasoning_fix.proxy.metadata import Notes
from reasoning_fix.store.sealing import lasting
from reasoning_fix.streams.coding import CodingError, decoder

_REQUEST_HEADERS = ("accept", "accept-encoding", "anthropic-version", "anthropic-beta", "openai-beta")
_AGENT_TOKEN = re.compile(r"[0-9A-Za-z]{16,}|[^\s/;()]*@[^\s/;()]*")
_LONGEST_AGENT = 200
_PLAIN_QUERIES = ("beta", "api-version", "stream")
_QUERIES = (*_PLAIN_QUERIES, "key", "api_key", "api-key", "token", "access_token")
_PARAMETER = re.compile(r"[a-z_]{0,40}")
_MODEL = re.compile(r"[\w./:+@-]{0,80}")
_NOTED_WORD = re.compile(r"[a-z -]{0,30}")
_KIND = re.compile(r"[a-z]+/[a-z0-9.+-]+")
_PATH_PART = re.compile(r"(?=[^/]*\d)[0-9A-Za-z_-]{12,}")


class Redacted(msgspec.Struct):
    """The flows that may be shared, and how many were left out since they are no chat requests."""

    flows: list[flow.Flow]
    left_out: int


def redact(flows: Sequence[flow.Flow], table: Table) -> Redacted:
    """Make flows that can be shared. A replay of them restores what a replay of the originals does."""
    requests = [found for number, one in enumerate(flows, 1) if (found := chat_request(number, one, table))]
    words = (word for row in table.refusals for word in re.findall(r"[^\W_]{2,}", row.text))
    pseudonyms = Pseudonyms(table.is_placeholder, frozenset(word.casefold() for word in words))
    # Once to learn the words, the tools and their properties, and once to replace them.
    for one in requests:
        _Maker(pseudonyms, table).flow(one)
    pseudonyms.learning = False
    maker = _Maker(pseudonyms, table)
    return Redacted([maker.flow(one) for one in requests], len(flows) - len(requests))


class _Maker:
    def __init__(self, pseudonyms: Pseudonyms, table: Table) -> None:
        self.to = pseudonyms
        self.table = table
        self.bodies = Bodies(pseudonyms)
        self.people: dict[bytes, str] = {}
        self.addresses: dict[str, str] = {}

    def flow(self, one: ChatRequest) -> flow.Flow:
        given = one.flow
        host = self._host(callers.host_of(given))
        peer = given.client_conn.peername
        # An address of those kept for documentation (RFC 3849), the same for each client.
        address = self.addresses.setdefault(peer[0] if peer else "", f"2001:db8::{len(self.addresses) + 1:x}")
        client = connection.Client(peername=(address, 0), sockname=("127.0.0.1", 0))
        client.timestamp_start = given.request.timestamp_start
        made = http.HTTPFlow(client, connection.Server(address=(host, given.request.port)))
        made.request = self._request(one, host)
        if given.response is not None:
            made.response = self._response(one, given.response)
        if given.error is not None:
            made.error = flow.Error("the connection was cut", given.error.timestamp)
        if one.notes is not None:
            made.metadata[metadata.KEY] = _noted(one.notes, one.altered, one.body, self.table)
        return made

    def _request(self, one: ChatRequest, host: str) -> http.Request:
        given = one.flow.request
        headers: dict[str, str] = {"host": host, "content-type": "application/json"}
        for name in _REQUEST_HEADERS:
            if value := given.headers.get(name):
                headers[name] = _AGENT_TOKEN.sub("x", value)
        if agent := given.headers.get("user-agent"):
            headers["user-agent"] = _AGENT_TOKEN.sub("x", agent[:_LONGEST_AGENT])
        for name in callers.CREDENTIALS:
            if value := given.headers.get(name):
                headers[name] = self._credential(value)
        for name in (*callers.SESSION_HEADERS, callers.AGENT_HEADER):
            if value := given.headers.get(name):
                headers[name] = self.to.id(value)
        return http.Request(
            host=host,
            port=given.port,
            method=b"POST",
            scheme=given.data.scheme,
            authority=b"",
            path=self._path(one).encode("utf-8", "surrogateescape"),
            http_version=given.data.http_version,
            headers=_headers(headers),
            content=self.bodies.request(one.body),
            trailers=None,
            timestamp_start=given.timestamp_start,
            timestamp_end=given.timestamp_end,
        )

    def _response(self, one: ChatRequest, given: http.Response) -> http.Response:
        kind = given.headers.get("content-type", "").partition(";")[0].strip().lower()
        return http.Response(
            http_version=given.data.http_version,
            status_code=given.status_code,
            reason=b"",
            headers=_headers({"content-type": kind if _KIND.fullmatch(kind) else "text/plain"}),
            content=self._answer(one, given, kind == "text/event-stream"),
            trailers=None,
            timestamp_start=given.timestamp_start,
            timestamp_end=given.timestamp_end,
        )

    def _answer(self, one: ChatRequest, given: http.Response, streamed: bool) -> bytes | None:
        body = _decoded(given, complete=one.flow.error is None)
        if not body:
            return body
        if given.status_code != 200:
            return self.bodies.refusal(body)
        snapshots = one.provider.snapshots(callers.host_of(one.flow))
        return self.bodies.answer(body, one.endpoint.dialect, streamed, snapshots)

    def _host(self, host: str) -> str:
        """A host that the table names stays; of one that a wildcard covers, only what the wildcard names."""
        if host in self.table.by_host:
            return host
        parent = host
        while parent and f"*.{parent}" not in self.table.by_host:
            parent = parent.partition(".")[2]
        own = host.removesuffix(parent)
        return self.to.id(own).lower() + parent if parent else host

    def _path(self, one: ChatRequest) -> str:
        """The path without account names, and queries without values."""
        path, _, query = one.flow.request.path.partition("?")
        made = "/".join(self.to.id(part) if _PATH_PART.fullmatch(part) else part for part in path.split("/"))
        if self.table.endpoint(one.provider, "POST", made) is not one.endpoint:
            made = path
        values = [part.partition("=") for part in query.split("&") if part]
        asked = "&".join(
            f"{name if name in _QUERIES else self.to.id(name)}{equals}"
            f"{value if name in _PLAIN_QUERIES else self.to.id(value)}"
            for name, equals, value in values
        )
        return f"{made}?{asked}" if asked else made

    def _credential(self, header: str) -> str:
        """A key that is nobody's, for each person the same."""
        value = callers.bare(header)
        if value.lower() in callers.ANONYMOUS:
            return header
        person = self.people.setdefault(lasting(value), f"sk-somebody-{len(self.people) + 1}")
        return f"Bearer {person}" if value != header.strip() else person


def _headers(given: dict[str, str]) -> http.Headers:
    return http.Headers((n.encode(), value.encode("utf-8", "surrogateescape")) for n, value in given.items())


def _decoded(response: http.Response, complete: bool) -> bytes | None:
    """The body without its content coding; None if there is none, or it cannot be read."""
    body = response.raw_content
    undo = decoder(response.headers.get("content-encoding", ""))
    if body is None or undo is None:
        return None
    try:
        return undo.feed(body) + (undo.end() if complete else b"")
    except CodingError:
        return None


def _noted(given: Notes, altered: bool, body: bytes, table: Table) -> dict[str, object]:
    """What the notes count and say in words of ours."""
    kept = msgspec.structs.replace(
        given,
        dialect=_word(given.dialect.replace("_", " ")).replace(" ", "_"),
        evidence={_word(way): count for way, count in given.evidence.items()},
        turns=[(index, _word(status), _word(way), time) for index, status, way, time in given.turns],
        refused=_word(given.refused.replace("_", " ")).replace(" ", "_"),
        changed=[name for name in given.changed if _PARAMETER.fullmatch(name)],
        lessons=[
            (means, detail)
            for means, detail in given.lessons
            if _PARAMETER.fullmatch(means)
            and (_PARAMETER.fullmatch(detail) or detail == table.stand_in or table.is_placeholder(detail))
        ],
        model=given.model if _MODEL.fullmatch(given.model) else "",
        preferences=_preferences(given, _model(body)),
        before_turns=None,
        before_settings=None,
        before_cuts=[],
        as_sent=not altered,
    )
    return metadata.plain(kept)


def _word(text: str) -> str:
    return text if _NOTED_WORD.fullmatch(text) else ""


def _preferences(given: Notes, model: str) -> tuple[str, str, bool] | None:
    """The options, with this request's model in place of the models that a person named."""
    if given.preferences is None:
        return None
    mode, disable, split = given.preferences
    mode = mode if mode in policy.MODES else policy.AUTO
    return mode, re.escape(model) if disable and _find(disable, model) else "", split


class _Named(msgspec.Struct):
    model: str = ""


def _model(body: bytes) -> str:
    """The model that a request names, which stays in it."""
    try:
        return msgspec.json.decode(body, type=_Named).model
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return ""


def _find(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern, text, re.IGNORECASE) is not None
    except re.error:
        return False
