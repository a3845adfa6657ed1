"""What a running proxy says about itself: the values of its health page."""

import msgspec

HOST = "reasoning.fix"
PATH = "/health"
RECENT_PATH = "/recent"
METRICS_PATH = "/metrics"


class Counts(msgspec.Struct):
    """What a process has done since it started: chat requests seen; turns recorded, restored, filled."""

    requests: int = 0
    recorded: int = 0
    restored: int = 0
    filled: int = 0


class StoreState(msgspec.Struct, frozen=True):
    """Where turns are kept: `kind` is sqlite or memory, `path` empty where memory was asked for."""

    kind: str
    path: str
    healthy: bool


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON of the health page. `listening` has `mode@host:port`, `ca_sha256` upper-case hex pairs."""

    status: str
    version: str
    mitmproxy: str
    python: str
    pid: int
    uptime_seconds: float
    listening: list[str]
    counts: Counts
    store: StoreState
    ca_sha256: str
    ca_expires: str


# One per process, here and not in the addon: it outlives a reload of the script, as streams on their way do.
counts = Counts()
