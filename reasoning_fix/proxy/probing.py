"""Asks a running proxy about itself, through the proxy: the way every client would come."""

import http.client

import msgspec

from reasoning_fix.proxy.health import HOST, PATH, RECENT_PATH, Health
from reasoning_fix.proxy.stats.recent import Page

NOTHING = "nothing listens there"
_LONGEST = 1024 * 1024


def ask_health(host: str, port: int, seconds: float = 5.0) -> Health | str:
    """The health of the proxy that listens there, or why there is none."""
    return _ask(host, port, PATH, Health, seconds)


def ask_recent(host: str, port: int, after: int, seconds: float = 5.0) -> Page | str:
    """The requests that came or changed there after this number, or why there is no answer."""
    return _ask(host, port, f"{RECENT_PATH}?after={after}", Page, seconds)


def _ask[Told](host: str, port: int, path: str, told: type[Told], seconds: float) -> Told | str:
    connection = http.client.HTTPConnection(host, port, timeout=seconds)
    try:
        connection.request("GET", f"http://{HOST}{path}", headers={"connection": "close"})
        answer = connection.getresponse()
        body = answer.read(_LONGEST)
    except ConnectionRefusedError:
        return NOTHING
    except (OSError, http.client.HTTPException) as error:
        return f"no HTTP answer comes from there ({error or type(error).__name__})"
    finally:
        connection.close()
    try:
        if answer.status != 200:
            raise msgspec.DecodeError(f"status {answer.status}")
        return msgspec.json.decode(body, type=told)
    except msgspec.MsgspecError:
        return f"something else answers there (HTTP {answer.status})"
