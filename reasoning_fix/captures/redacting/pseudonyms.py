"""Pseudonyms for words: of the same length and kind, equal where the words are equal, and only there.

Strategy: every letter and digit is exchanged for another one of its kind, chosen at random for what stands
before it in its word and kept for the whole file. So what began alike begins alike, a text within another one
stays within it, and nothing of the choice is written down. Before that, `learning` goes through everything
once, so that no pseudonym of four letters or more is a word of the originals. It knows no wire format.
"""

import hashlib
import random
import re
import secrets
import sys
import unicodedata
from collections.abc import Callable, Iterable
from functools import lru_cache

import msgspec

_WORD = re.compile(r"[^\W_]+")
# What is looked for in texts to tell reasoning and a client's own notes from the rest.
_MARKUP = re.compile(r"(</?(?:mm:)?think>|</?system-reminder>|think>)")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?', re.DOTALL)
_IS_KEY = re.compile(r"[ \t\r\n]*:")
_NUMBER = re.compile(r"(-?)(\d+)(?:\.(\d+))?(.*)", re.DOTALL)
_DATA_URL = re.compile(r"data:[\w.+/-]*;base64,")
_UNIT = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\.|.", re.DOTALL
)
# Numbers with fewer digits say nothing of anybody, and counters must stay counters.
_SHORT_NUMBER = 3
# JavaScript keeps so many digits of a number for certain.
_EXACT_DIGITS = 15
_LONGEST_WORD = 200
_SHORTEST_SECRET = 4
_ALNUM = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
# What ids are made of beside their random part.
_ID_WORDS = frozenset(
    (
        *("call", "calls", "tool", "toolu", "tooluse", "function", "functions", "fc", "ctc", "ws", "mcp"),
        *("msg", "message", "resp", "response", "rs", "item", "chatcmpl", "cmpl", "gen", "id", "req"),
        *("request", "run", "chat", "reasoning", "thinking", "user", "session", "account", "conv"),
    )
)


class Pseudonyms:
    """The pseudonyms of one file. `keeps` says which texts stay whole (blank ones, known placeholders)."""

    def __init__(self, keeps: Callable[[str], bool], known_words: frozenset[str] = frozenset()) -> None:
        self._keeps = keeps
        self._known_words = known_words
        self._key = secrets.token_bytes(32)
        self._random = random.SystemRandom()
        self._words: set[str] = {"think"}
        # A step from one beginning of a word to the next: what is written, and the number of that beginning.
        self._steps: dict[tuple[int, str], tuple[int, str]] = {}
        self._begun = [""]
        self._taken: set[tuple[int, str]] = set()
        self._tool_names: re.Pattern[str] | None = None
        self._names: set[str] = set()
        self.property_names: set[str] = set()
        self.learning = True

    def name_tool(self, name: str) -> None:
        """Tool names stay, in ids too."""
        if name and name not in self._names:
            self._names.add(name)
            parts = "|".join(re.escape(one) for one in sorted(self._names, key=len, reverse=True))
            self._tool_names = re.compile(f"(?<![^\\W_])({parts})(?![^\\W_])")

    # Each of these gives back as many characters as it got.

    def text(self, text: str) -> str:
        """What somebody said."""
        if self._keeps(text):
            return text
        return "".join(
            piece if number % 2 else _WORD.sub(lambda found: self.word(found[0]), piece)
            for number, piece in enumerate(_MARKUP.split(text))
        )

    def error(self, text: str) -> str:
        """What a provider said; words of the refusals that are known stay."""
        return _WORD.sub(
            lambda found: found[0] if found[0].casefold() in self._known_words else self.word(found[0]), text
        )

    def arguments(self, text: str) -> str:
        """Arguments of a call: JSON whose declared names stay, else a text."""
        try:
            msgspec.json.decode(text)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return self.text(text)
        return _TOKEN.sub(self._token, text)

    def id(self, text: str) -> str:
        """An id: its make stays, its random part does not."""
        pieces = self._tool_names.split(text) if self._tool_names is not None else [text]
        return "".join(
            piece if number % 2 else _WORD.sub(self._id_part, piece) for number, piece in enumerate(pieces)
        )

    def blob(self, text: str) -> str:
        """A signature, an image: nobody reads it, it is only ever compared as a whole."""
        if not text or not text.isascii():
            return self.text(text)
        if self.learning:
            return text
        head = found[0] if (found := _DATA_URL.match(text)) else ""
        stream = hashlib.shake_256(self._key + text.encode()).digest(len(text) - len(head))
        said = text[len(head) :]
        return head + "".join(
            _ALNUM[byte % len(_ALNUM)] if char.isalnum() else char
            for char, byte in zip(said, stream, strict=True)
        )

    def number(self, text: str) -> str:
        """A number among arguments, equal where the values are equal, however they are spelled."""
        found = _NUMBER.fullmatch(text)
        if found is None or len(found[2] + (found[3] or "")) <= _SHORT_NUMBER:
            return text
        sign, whole, part, rest = found.groups()
        part = part or ""
        digits = whole + part.rstrip("0")
        said = self._digits(digits[:_EXACT_DIGITS]) + "0" * (len(digits) - _EXACT_DIGITS)
        said += "0" * (len(whole + part) - len(digits))
        return f"{sign}{said[: len(whole)]}{'.' if part else ''}{said[len(whole) :]}{rest}"

    def word(self, word: str) -> str:
        """A run of letters and digits."""
        if self.learning:
            self._words.add(word.casefold())
            return word
        written = self._walked(word[:_LONGEST_WORD])
        return written if len(word) <= _LONGEST_WORD else written + self._rest(word)

    def _id_part(self, found: re.Match[str]) -> str:
        part = found[0]
        if part.casefold() in _ID_WORDS or (part.isdecimal() and len(part) <= _SHORT_NUMBER):
            return part
        return self.word(part)

    def _token(self, found: re.Match[str]) -> str:
        token = found[0]
        if token[0] != '"':
            return self.number(token)
        is_key = _IS_KEY.match(found.string, found.end()) is not None
        return '"' + respelled(token[1:-1], self.property_name if is_key else self.text) + '"'

    def property_name(self, name: str) -> str:
        """The name of a property stays where a tool declares it."""
        return name if name in self.property_names else self.text(name)

    def _digits(self, digits: str) -> str:
        if self.learning:
            return digits
        # Zeros at either end would change how many digits the number has.
        kinds = {len(digits) - 1: "last", 0: "first"}
        return self._walked(kinds.get(number, "") + char for number, char in enumerate(digits))

    def _walked(self, chars: Iterable[str]) -> str:
        at, written = 0, ""
        for char in chars:
            at, new = self._steps.get((at, char)) or self._step(at, char)
            written += new
        return written

    def _step(self, at: int, char: str) -> tuple[int, str]:
        pool = _pool(char)
        begun = self._begun[at]
        group = char[:-1]
        choice = char[-1]
        for _ in range(200):
            choice = self._random.choice(pool)
            if (at, group + choice) in self._taken:
                continue
            if len(begun) + 1 < _SHORTEST_SECRET or (begun + choice).casefold() not in self._words:
                break
        else:
            free = [one for one in pool if (at, group + one) not in self._taken]
            choice = self._random.choice(free)
        self._taken.add((at, group + choice))
        self._begun.append(begun + choice)
        step = self._steps[at, char] = len(self._begun) - 1, choice
        return step

    def _rest(self, word: str) -> str:
        """The rest of a run too long for a word: a shift that its beginning decides."""
        head, rest = word[:_LONGEST_WORD], word[_LONGEST_WORD:]
        stream = hashlib.shake_256(self._key + head.encode("utf-8", "surrogatepass")).digest(2 * len(rest))
        written = []
        for number, char in enumerate(rest):
            pool = _pool(char)
            shift = int.from_bytes(stream[2 * number : 2 * number + 2])
            written.append(pool[(pool.index(char) + 1 + shift) % len(pool)])
        return "".join(written)


def respelled(inner: str, change: Callable[[str], str]) -> str:
    """The inside of a JSON string with its text changed, each character spelled as the one it stands for."""
    if "\\" not in inner:
        return change(inner)
    units, chars = units_of(inner)
    return spelled(units, chars, change("".join(chars)))


def units_of(inner: str) -> tuple[list[str], list[str]]:
    """The inside of a JSON string as it is spelled, and the character that each spelling means."""
    units = _UNIT.findall(inner)
    return units, [_char(unit) for unit in units]


def spelled(units: list[str], chars: list[str], new: str) -> str:
    """New characters in the spelling of the old ones."""
    assert len(new) == len(chars), "a pseudonym is as long as what it stands for"
    return "".join(
        unit if old == char else _escaped(char) if unit[0] == "\\" else char
        for unit, old, char in zip(units, chars, new, strict=True)
    )


def _char(unit: str) -> str:
    if unit[0] != "\\":
        return unit
    if len(unit) == 12:
        high, low = int(unit[2:6], 16), int(unit[8:], 16)
        return chr(0x10000 + ((high - 0xD800) << 10) + low - 0xDC00)
    if len(unit) == 6:
        return chr(int(unit[2:], 16))
    return {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}.get(unit[1:], unit[1:])


def _escaped(char: str) -> str:
    if ord(char) < 0x10000:
        return f"\\u{ord(char):04x}"
    offset = ord(char) - 0x10000
    return f"\\u{0xD800 + (offset >> 10):04x}\\u{0xDC00 + (offset & 0x3FF):04x}"


@lru_cache(maxsize=4096)
def _pool(char: str) -> str:
    """The characters that may stand for this one: of its kind, and as long in UTF-8."""
    if char in ("first0", "last0"):
        return "0"
    if len(char) > 1:
        return "123456789"
    if char.isascii():
        for pool in ("abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"):
            if char in pool:
                return pool
    return _kinds()[unicodedata.category(char), len(char.encode())]


@lru_cache(maxsize=1)
def _kinds() -> dict[tuple[str, int], str]:
    found: dict[tuple[str, int], list[str]] = {}
    for code in range(0x80, sys.maxunicode + 1):
        char = chr(code)
        if char.isalnum():
            found.setdefault((unicodedata.category(char), len(char.encode())), []).append(char)
    return {kind: "".join(chars) for kind, chars in found.items()}
