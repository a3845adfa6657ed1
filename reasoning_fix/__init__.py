"""reasoning-fix: puts back the reasoning that clients drop between two requests to a reasoning model.

What a program of its own needs is here: an `Engine` over `load_table()` and a store (`open_store(path)`, or a
`MemoryStore()`), which makes an `Exchange` of every request. mitmproxy is not imported for that. It raises no
errors but those of `ReasoningFixError`, which stand for requests and answers to be passed on as they came.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reasoning_fix.engine.caller import Caller as Caller
    from reasoning_fix.engine.engine import Engine as Engine
    from reasoning_fix.engine.exchange import Exchange as Exchange
    from reasoning_fix.engine.policy import Preferences as Preferences
    from reasoning_fix.engine.report import Report as Report
    from reasoning_fix.engine.tap import Tap as Tap
    from reasoning_fix.providers.table import load_table as load_table
    from reasoning_fix.store.memory import MemoryStore as MemoryStore
    from reasoning_fix.store.sealing import load_secret as load_secret
    from reasoning_fix.store.sqlite import open_store as open_store

__version__ = "0.1.0"


class ReasoningFixError(Exception):
    """What this package raises: the text says what was expected, what was found, and what to do.

    ReasoningFixError
    ├── NotChatError              a body is not a chat request that can be read
    │   └── KeptByServer          the server itself keeps the conversation
    ├── SpliceError               a body repeats a member name
    │   └── LeftError             so do some messages; all others can be changed
    ├── AnswerError               an answer cannot be recorded
    ├── CodingError, EventTooLong its bytes cannot be read
    ├── StoreError                what is on record cannot be had
    │   └── NewerFormat           a newer version wrote it
    ├── SealError                 what is on record cannot be opened
    ├── ProviderTableError        a file with providers, and its line
    ├── EnvironmentTableError     a file with variables
    ├── CaptureError              a file that holds no flows
    ├── AuthorityError            the CA
    ├── DesktopError, ServiceError, StepError        what is asked of this machine
    ├── ReverseError, UpstreamError, NotStartedError    how a proxy is started
    ├── TargetError, NoAnswer, Repaired              asking a provider
    └── UsageError                a command line
    """


# Imported when they are asked for: the console command needs none of them to start.
_ROOMS = {
    "Caller": "engine.caller",
    "Engine": "engine.engine",
    "Exchange": "engine.exchange",
    "MemoryStore": "store.memory",
    "Preferences": "engine.policy",
    "Report": "engine.report",
    "Tap": "engine.tap",
    "load_secret": "store.sealing",
    "load_table": "providers.table",
    "open_store": "store.sqlite",
}


def __getattr__(name: str) -> object:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
