"""Whether a proxy of ours runs at an address: it answers for a host that only it knows.

https://reasoning.fix is nobody's; a request for it through any other proxy, or to any other server, does not
answer with our JSON.
"""

import http.client
import json

from reasoning_fix.running.given import LISTEN_HOST, Given

# How a proxy that `exec` starts says that it listens; the port follows.
READY = "reasoning-fix ready "
HEALTH = "http://reasoning.fix/health"
_SECONDS = 2.0
_LONGEST = 65536


def address(given: Given, port: int | None = None) -> str:
    """HOST:PORT where programs of this machine reach the proxy that these options would start."""
    host = given.text("listen_host") or LISTEN_HOST
    if host in ("0.0.0.0", "::"):
        host = LISTEN_HOST
    return f"[{host}]:{port or given.port()}" if ":" in host else f"{host}:{port or given.port()}"


def answers(address: str, fingerprint: str = "") -> bool:
    """Whether our health page answers through this address; False for everything else that may be there.

    With the SHA-256 `fingerprint` of a CA (hexadecimal): and whether that is the CA it signs with.
    """
    connection = http.client.HTTPConnection(address, timeout=_SECONDS)
    try:
        connection.request("GET", HEALTH, headers={"connection": "close"})
        response = connection.getresponse()
        health = json.loads(response.read(_LONGEST))
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()
    if response.status != 200 or not isinstance(health, dict):
        return False
    told = str(health.get("ca_sha256", "")).replace(":", "")
    return not fingerprint or not told or told.upper() == fingerprint.upper()
