"""Whether a text only stands in for reasoning: a kind of text, of which no list is ever complete.

A tool that lost a thought writes one in its place, each in its own words: `[reasoning unavailable]`, `(prior
reasoning not preserved)`, `(thinking)`, `…`. What they share: they are short, and they say nothing but that
there is, or was, a thought. So a text is one where it has no letter or digit at all; or is in brackets and
made of such words only; or is, without brackets, one of a few phrases of them. A short real thought has a
word of its own ("Thinking about the file", "No reasoning needed"), so one foreign word decides.

The words are data (providers.toml, `words`). This file knows no request and no provider.
"""

import re
from functools import lru_cache

from reasoning_fix.providers.rows import PlaceholderWords

# Longer texts are thoughts. The longest that was found in public code has 77 characters.
LONGEST = 100
# No more than this of punctuation alone.
_LONGEST_MARK = 12

_BRACKETS = {"[": "]", "(": ")", "<": ">", "{": "}", "（": "）", "【": "】", "〈": "〉", "「": "」"}
_EMPHASIS = " \t\r\n*_`\"'"
_PIECE = re.compile(r"[0-9a-f]*[0-9][0-9a-f]*|[a-z]+|[^\W_]+")
# A phrase as the kinds of its words: t a thought, p a part of one, x lost, n not, k kept, e earlier, b is,
# f a word between, d digits.
_THOUGHT = "t(?:f?[tp])*"
_PHRASE = re.compile(
    rf"e?{_THOUGHT}(?:b*x|b*nk|n)f?d*"  # reasoning omitted; previous thinking was not kept
    rf"|ne?{_THOUGHT}k?d*"  # no reasoning; no prior reasoning available
    rf"|x{_THOUGHT}d*"  # redacted thinking
    r"|t"  # Thinking...
)


def says_nothing(text: str, words: PlaceholderWords) -> bool:
    """Whether this text, neither blank nor longer than `LONGEST`, is made of such words."""
    bare, is_bracketed = _unwrapped(text)
    kinds = _kinds(bare.lower(), words)
    if not kinds:
        return False
    if is_bracketed:
        return "t" in kinds or ("x" in kinds and not set(kinds) & set("nk")) or kinds.strip("d") == "nk"
    return _PHRASE.fullmatch(kinds) is not None


def is_mark(text: str) -> bool:
    """Whether a text is punctuation alone."""
    return len(text) <= _LONGEST_MARK and _PIECE.search(text) is None


def _unwrapped(text: str) -> tuple[str, bool]:
    """The text inside its brackets, and whether there were any."""
    bare, is_bracketed = text.strip(_EMPHASIS), False
    while len(bare) > 1 and _BRACKETS.get(bare[0]) == bare.rstrip(".")[-1:]:
        bare, is_bracketed = bare.rstrip(".")[1:-1].strip(_EMPHASIS), True
    return bare, is_bracketed


def _kinds(text: str, words: PlaceholderWords) -> str | None:
    """A letter for each word; None if one is foreign: nearly always the first that is looked at."""
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
        # Scripts that put no spaces between words.
        foreign = sorted((word for word in self.kinds if not word.isascii()), key=len, reverse=True)
        self.one = re.compile("|".join(map(re.escape, foreign)))
        self.joined = re.compile(f"(?:{self.one.pattern})+") if foreign else None


@lru_cache(maxsize=16)
def _known(words: PlaceholderWords) -> _Known:
    return _Known(words)
