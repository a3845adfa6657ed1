"""Where an audit asks: the URL, the provider as the table knows it, and the headers that carry the key."""

import re
from urllib.parse import urlsplit

import msgspec

from reasoning_fix import ReasoningFixError, __version__
from reasoning_fix.providers.rows import Dialect, Endpoint, ProviderRow
from reasoning_fix.providers.table import Provider, Table, listed

# Where the variable that a provider's own documentation names is not NAME_API_KEY.
_KEYS = {"kimi": "MOONSHOT_API_KEY", "glm": "ZAI_API_KEY", "volcengine": "ARK_API_KEY"}
# Headers without which a host answers nobody: https://github.com/anomalyco/opencode (since 2026-09).
_MORE_HEADERS: dict[str, dict[str, str]] = {"opencode": {"x-opencode-session": "ses_reasoning_fix_audit"}}
_ENDINGS: dict[str, str] = {
    "chat_completions": "/chat/completions",
    "messages": "/messages",
    "responses": "/responses",
}
_GROUP = re.compile(r"\(([^()]*)\)(\?)?")


class TargetError(ReasoningFixError, ValueError):
    """It is not clear where to ask; the text says what to give."""


class Target(msgspec.Struct, frozen=True):
    """One wire of one host. `known` is False for a host that no table names; `key_name` is the environment
    variable that holds the key, unless the person names another.
    """

    url: str
    host: str
    model: str
    provider: Provider
    endpoint: Endpoint
    known: bool
    key_name: str

    @property
    def dialect(self) -> Dialect:
        return self.endpoint.dialect

    def headers(self, key: str) -> dict[str, str]:
        """What goes with each request; no key, no header for it."""
        headers = {
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "user-agent": f"reasoning-fix/{__version__}",
        }
        if key:
            headers["authorization"] = f"Bearer {key}"
        if self.dialect == "messages":
            headers["anthropic-version"] = "2023-06-01"
            if key:
                headers["x-api-key"] = key
        return headers | _MORE_HEADERS.get(self.provider.name, {})


def find(table: Table, given: str, model: str, dialect: Dialect, base_url: str) -> Target:
    """The target that a person names: a provider or host of the table, or any host with a base URL.

    `base_url` is what clients of that wire are given. Raises TargetError.
    """
    provider = next((found for found in table.by_host.values() if found.name == given), None)
    host = ""
    if provider is None:
        host = (urlsplit(given).hostname or "") if "://" in given else given.partition("/")[0]
        provider = table.provider(host)
    name = provider.name if provider is not None else host
    key_name = _KEYS.get(name, f"{re.sub(r'[^A-Za-z0-9]+', '_', name).upper()}_API_KEY")
    if base_url:
        url = _full_url(base_url, dialect)
        host = urlsplit(url).hostname or ""
        known = table.provider(host)
        found = known or listed(ProviderRow(host, (host,)))
        path = urlsplit(url).path
        endpoint = table.endpoint(found, "POST", path)
        if endpoint is None or endpoint.dialect != dialect:
            endpoint = Endpoint(path=re.escape(path), dialect=dialect)
        return Target(url, host, model, found, endpoint, known is not None, key_name)
    if provider is None:
        names = ", ".join(sorted({found.name for found in table.by_host.values()}))
        raise TargetError(
            f"{given!r} is no provider or host of the table ({names}); for any other give --base-url too."
        )
    endpoints = [endpoint for endpoint in provider.endpoints if endpoint.dialect == dialect]
    if not endpoints:
        spoken = ", ".join(sorted({endpoint.dialect for endpoint in provider.endpoints}))
        raise TargetError(f"{provider.name} does not speak {dialect}; it speaks {spoken}.")
    host = host or provider.hosts[0]
    path = usual_path(endpoints[0].path)
    if host.startswith("*.") or not re.fullmatch(endpoints[0].path, path):
        raise TargetError(f"which URL of {provider.name} is meant is not clear; give --base-url.")
    return Target(f"https://{host}{path}", host, model, provider, endpoints[0], True, key_name)


def usual_path(pattern: str) -> str:
    """The path that clients use, of those that an endpoint's pattern allows: the first of each choice.

    What is optional is left out, but for the version of the API.
    """

    def one(group: re.Match[str]) -> str:
        first = group[1].partition("|")[0]
        return "" if group[2] and first != "/v1" else first

    path = pattern
    while _GROUP.search(path):
        path = _GROUP.sub(one, path)
    path = path.removeprefix(".*").replace("\\", "")
    return path if path.startswith("/v1") or not pattern.startswith(".*") else f"/v1{path}"


def _full_url(base_url: str, dialect: Dialect) -> str:
    parts = urlsplit(base_url)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.username or parts.query:
        raise TargetError(
            f"--base-url: {base_url!r} was given; expected a URL like https://api.example.com/v1."
        )
    path = parts.path.rstrip("/")
    ending = _ENDINGS[dialect]
    if not path.endswith(ending):
        # SDKs of the messages wire add the version themselves.
        version = "/v1" if dialect == "messages" and not re.search(r"/v\d+$", path) else ""
        path += version + ending
    return parts._replace(path=path, fragment="").geturl()
