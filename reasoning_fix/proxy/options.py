"""The options of the addon: what can be set in mitmproxy, what is allowed, and what was given, as values.

Reading an option of mitmproxy copies and checks it (10 microseconds), so they are read when they change.
"""

import re
from pathlib import Path
from typing import Any

import msgspec
from mitmproxy import ctx, exceptions
from mitmproxy.addonmanager import Loader

from reasoning_fix.engine import policy
from reasoning_fix.engine.policy import Preferences
from reasoning_fix.engine.showing import STYLES, Style
from reasoning_fix.machine import folders
from reasoning_fix.providers.files import ProviderTableError
from reasoning_fix.providers.table import Table, load_table

_DECRYPT_MODES = ("providers", "all")
_MEMORY = "memory"


class Options(msgspec.Struct, frozen=True):
    """What was given. `store` is the path of the store, None: memory; `view_bytes` are kept of a stream.

    `show` are the models whose thoughts are shown, None: of none.
    """

    preferences: Preferences
    decrypt_all: bool
    store: Path | None
    keep_days: int
    keep_megabytes: int
    view_bytes: int
    show: re.Pattern[str] | None = None
    show_as: Style = STYLES["details"]

    def keeps_as(self, other: "Options") -> bool:
        """Whether turns are kept in the same place for as long."""
        mine, theirs = (
            (one.store, one.keep_days, one.keep_megabytes, one.directory) for one in (self, other)
        )
        return mine == theirs

    @property
    def directory(self) -> Path:
        """Where what belongs to the store lies."""
        return folders.data() if self.store is None else self.store.parent


def declare(loader: Loader) -> None:
    """Tell mitmproxy which options there are."""
    for name, kind, default, text in _OPTIONS:
        loader.add_option(name, kind, default, text)


_OPTIONS: tuple[tuple[str, type, Any, str], ...] = (
    (
        "reasoning_fallback",
        str,
        policy.AUTO,
        "What to do where a provider demands reasoning that nobody recorded: auto (put what the rule of the "
        "provider accepts), disable-thinking (turn thinking off for that request, where it can be) or none.",
    ),
    (
        "reasoning_disable",
        str,
        "",
        "Models (a regular expression, looked for in the model's name) whose thinking is turned off on every "
        "request. Default: no model.",
    ),
    (
        "reasoning_show",
        str,
        "",
        "Models (a regular expression, looked for in the model's name) whose thoughts are put in front of "
        "the content of chat completions, for clients that hide them, and taken out of later requests again. "
        "Default: no model.",
    ),
    (
        "reasoning_show_as",
        str,
        "details",
        "How thoughts are shown: details (a block that opens with a click, in HTML) or quote (of Markdown).",
    ),
    (
        "reasoning_split",
        bool,
        False,
        "Ask MiniMax for reasoning apart from the content (adds reasoning_split: true to requests).",
    ),
    (
        "reasoning_store",
        str,
        "",
        "Path of the file that keeps recorded turns; memory keeps them only while the proxy runs. Default: "
        "turns.sqlite3 in the user data directory.",
    ),
    ("reasoning_keep_days", str, "30", "Recorded turns older than this are erased (days)."),
    (
        "reasoning_keep_megabytes",
        str,
        "512",
        "When the store is larger than this (megabytes), its oldest turns are erased.",
    ),
    (
        "reasoning_providers",
        str,
        "",
        "TOML file with providers and gateways of your own. Default: providers.toml in the user config "
        "directory, where there is one.",
    ),
    (
        "reasoning_decrypt",
        str,
        "providers",
        "Which TLS connections are decrypted: providers (only hosts of the provider table) or all.",
    ),
    (
        "reasoning_view_kilobytes",
        str,
        "2048",
        "How much of a streamed answer is kept to look at after it ended (kilobytes); of a longer one its "
        "beginning and its end. 0 keeps nothing.",
    ),
)


def read() -> Options:
    """The options as they are now. Raises OptionsError, which names the option and what is allowed."""
    given = ctx.options
    _one_of("reasoning_fallback", given.reasoning_fallback, policy.MODES)
    _one_of("reasoning_decrypt", given.reasoning_decrypt, _DECRYPT_MODES)
    _one_of("reasoning_show_as", given.reasoning_show_as, tuple(STYLES))
    _pattern("reasoning_disable", given.reasoning_disable)
    shown = _pattern("reasoning_show", given.reasoning_show)
    return Options(
        preferences=Preferences(given.reasoning_fallback, given.reasoning_disable, given.reasoning_split),
        decrypt_all=given.reasoning_decrypt == "all",
        store=_store(given.reasoning_store),
        keep_days=_whole("reasoning_keep_days", given.reasoning_keep_days, 1),
        keep_megabytes=_whole("reasoning_keep_megabytes", given.reasoning_keep_megabytes, 1),
        view_bytes=1024 * _whole("reasoning_view_kilobytes", given.reasoning_view_kilobytes, 0),
        show=shown if given.reasoning_show else None,
        show_as=STYLES[given.reasoning_show_as],
    )


def table() -> Table:
    """The provider table with the user's own file on top. Raises OptionsError."""
    given: str = ctx.options.reasoning_providers
    path = Path(given).expanduser() if given else folders.user_providers()
    if path is None:
        return load_table()
    if not path.is_file():
        raise _error(f"reasoning_providers: there is no file {given!r}; give a TOML file.")
    try:
        return load_table(path)
    except (ProviderTableError, OSError) as error:
        raise _error(f"reasoning_providers: {error}") from error


def _store(given: str) -> Path | None:
    if given == _MEMORY:
        return None
    return Path(given).expanduser() if given else folders.store()


def _error(text: str) -> exceptions.OptionsError:
    return exceptions.OptionsError(text)  # type: ignore[no-untyped-call]


def _one_of(name: str, given: str, allowed: tuple[str, ...]) -> None:
    if given not in allowed:
        raise _error(f"{name}: {given!r} was given; allowed are {', '.join(allowed)}.")


def _whole(name: str, given: str, least: int) -> int:
    if not (given.isascii() and given.isdecimal() and len(given) < 10) or int(given) < least:
        raise _error(f"{name}: {given!r} was given; a whole number from {least} up is allowed.")
    return int(given)


def _pattern(name: str, given: str) -> re.Pattern[str]:
    try:
        return re.compile(given, re.IGNORECASE)
    except re.error as error:
        raise _error(f"{name}: {given!r} was given; a regular expression is allowed ({error}).") from error
