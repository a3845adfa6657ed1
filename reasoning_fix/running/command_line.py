"""What a person gave: the words of the command line and the config.yaml of the confdir, read beforehand.

mitmproxy reads both itself; this looks ahead at the options that decide what is made before it starts (the
CA, the modes, the bundle). mitmproxy is not imported, so that `env` and `exec` start fast. A config.yaml that
cannot be read counts as empty here; mitmproxy says what is wrong with it.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from reasoning_fix.machine import folders

LISTEN_HOST = "127.0.0.1"
LISTEN_PORT = 8080
_CONFIG_FILES = ("config.yaml", "config.yml")  # mitmproxy reads both, the second over the first


class Given(msgspec.Struct, frozen=True):
    """Options by mitmproxy's names; what the words say wins over the file. `flagged` are not by --set."""

    confdir: Path
    words: dict[str, list[str]]
    flagged: frozenset[str]
    file: dict[str, object]

    def every(self, name: str) -> list[str]:
        """All values of a list option; empty if it was not given."""
        if name in self.words:
            return self.words[name]
        value = self.file.get(name)
        return [str(item) for item in value] if isinstance(value, list) else []

    def text(self, name: str) -> str:
        if self.words.get(name):
            return self.words[name][-1]
        value = self.file.get(name)
        return "" if value is None else str(value)

    def port(self) -> int:
        text = self.text("listen_port")
        return int(text) if text.isdecimal() else LISTEN_PORT


def look_ahead(words: Sequence[str], confdir: Path | None = None) -> Given:
    """What these words for mitmproxy, and the config.yaml they lead to, will mean to it."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--listen-host")
    parser.add_argument("-p", "--listen-port")
    parser.add_argument("-m", "--mode", action="append")
    parser.add_argument("--proxyauth")
    parser.add_argument("--set", action="append", default=[])
    try:
        known = vars(parser.parse_known_args(list(words))[0])
    except argparse.ArgumentError:
        known = {"set": []}  # mitmproxy says what is wrong with them
    options: dict[str, list[str]] = {}
    for spec in known.pop("set"):
        name, _, value = spec.partition("=")
        options.setdefault(name, []).append(value)
    flagged = {name: value for name, value in known.items() if value is not None}
    for name, value in flagged.items():  # mitmproxy prefers a flag to --set
        options[name] = value if isinstance(value, list) else [value]
    if options.get("confdir"):
        confdir = Path(options["confdir"][-1])
    directory = (confdir or folders.configuration()).expanduser().absolute()
    return Given(directory, options, frozenset(flagged), _read_config(directory))


def _read_config(confdir: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for name in _CONFIG_FILES:
        try:
            document = YAML(typ="safe", pure=True).load((confdir / name).read_text("utf-8"))
        except (OSError, UnicodeDecodeError, YAMLError):
            continue
        if isinstance(document, dict):
            found |= {str(key): value for key, value in document.items()}
    return found
