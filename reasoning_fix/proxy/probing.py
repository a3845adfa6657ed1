"""Asks a running proxy how it is, through the proxy itself: the way every client would come."""

import http.client

import msgspec

from reasoning_fix.proxy.health import HOST, PATH, Health

NOTHING = "nothing listens there"
_LONGEST = 65536


def ask_health(host: str, port: int, seconds: float = 5.0) -> Health | str:
    """The health of the proxy that listens there, or why there is none."""
    connection = http.client.HTTPConnection(host, port, timeout=seconds)
    try:
        connection.request("GET", f"http://{HOST}{PATH}", headers={"connection": "close"})
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
        return msgspec.json.decode(body, type=Health)
    except msgspec.MsgspecError:
        return f"something else answers there (HTTP {answer.status})"
