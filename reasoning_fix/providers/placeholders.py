"""Tells whether a text only stands in for reasoning. No list of such texts is ever complete.

Each tool that loses reasoning puts its own text in its place: `[reasoning unavailable]`, `(prior reasoning
not preserved)`, `(thinking)`, `…`. All are short, and say only that there is, or was, a thought. So a text is
a placeholder if it has no letter or digit, if it is in brackets and made only of such words, or if it is one
of a few phrases made of them. Real reasoning, however short, has a word of its own ("Thinking about the
file").

The words are data (`words` in providers.toml). This file knows nothing of requests and providers.
"""

import re
from functools import lru_cache

from reasoning_fix.providers.rows import PlaceholderWords

# Longer texts are reasoning. The longest placeholder found in public code has 77 characters.
LONGEST = 100
# The most characters of punctuation alone.
_LONGEST_MARK = 12

_BRACKETS = {"[": "]", "(": ")", "<": ">", "{": "}", "（": "）", "【": "】", "〈": "〉", "「": "」"}
_EMPHASIS = " \t\r\n*_`\"'"
_PIECE = re.compile(r"[0-9a-f]*[0-9][0-9a-f]*|[a-z]+|[^\W_]+")
# A phrase, as one letter for the kind of each word: t thought, p part of one, x lost, n not, k kept,
# e earlier, b is, f a word between, d digits.
_THOUGHT = "t(?:f?[tp])*"
_PHRASE = re.compile(
    rf"e?{_THOUGHT}(?:b*x|b*nk|n)f?d*"  # reasoning omitted; previous thinking was not kept
    rf"|ne?{_THOUGHT}k?d*"  # no reasoning; no prior reasoning available
    rf"|x{_THOUGHT}d*"  # redacted thinking
    r"|t"  # Thinking...
)


def says_nothing(text: str, words: PlaceholderWords) -> bool:
    """Whether this text is made of such words; it must not be blank or longer than `LONGEST`."""
    bare, is_bracketed = _unwrapped(text)
    kinds = _kinds(bare.lower(), words)
    if not kinds:
        return False
    if is_bracketed:
        return "t" in kinds or ("x" in kinds and not set(kinds) & set("nk")) or kinds.strip("d") == "nk"
    return _PHRASE.fullmatch(kinds) is not None


def is_mark(text: str) -> bool:
    """Whether a text is only punctuation."""
    return len(text) <= _LONGEST_MARK and _PIECE.search(text) is None


def _unwrapped(text: str) -> tuple[str, bool]:
    """The text without its brackets, and whether it had any."""
    bare, is_bracketed = text.strip(_EMPHASIS), False
    while len(bare) > 1 and _BRACKETS.get(bare[0]) == bare.rstrip(".")[-1:]:
        bare, is_bracketed = bare.rstrip(".")[1:-1].strip(_EMPHASIS), True
    return bare, is_bracketed


def _kinds(text: str, words: PlaceholderWords) -> str | None:
    """A letter for each word; None as soon as a word is not of any kind, which is nearly always the first."""
    known = _known(words)
    kinds = ""
    for found in _PIECE.finditer(text):
        piece = found[0]
        if piece in known.kinds:
            kinds += known.kinds[piece]
        elif piece.isascii() and not piece.isalpha():
            kinds += "d"
        elif known.joined is not None and known.joined.fullmatch(piece):
            kinds += "".join(known.kinds[word] for word in known.one.findall(piece))
        else:
            return None
    return kinds


class _Known:
    def __init__(self, words: PlaceholderWords) -> None:
        lists = (
            (words.thoughts, "t"),
            (words.parts, "p"),
            (words.lost, "x"),
            (words.negations, "n"),
            (words.kept, "k"),
            (words.earlier, "e"),
            (words.verbs, "b"),
            (words.between, "f"),
        )
        self.kinds = {word: kind for some, kind in lists for word in some}
        # For scripts without spaces between words.
        foreign = sorted((word for word in self.kinds if not word.isascii()), key=len, reverse=True)
        self.one = re.compile("|".join(map(re.escape, foreign)))
        self.joined = re.compile(f"(?:{self.one.pattern})+") if foreign else None


_known = lru_cache(maxsize=16)(_Known)
