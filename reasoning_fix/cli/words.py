"""Which words of a command line are ours, where a command passes the others on to another program.

argparse cannot say: it lets a REMAINDER begin only at a positional word, and treats "--" differently from one
Python to the next.
"""

from collections.abc import Collection, Sequence


def anywhere(
    words: Sequence[str], flags: Collection[str], valued: Collection[str]
) -> tuple[list[str], list[str]]:
    """Our words wherever they stand, and the others in their order; `valued` flags take the next word too."""
    ours: list[str] = []
    others: list[str] = []
    position = 0
    while position < len(words):
        taken = _taken(words[position], flags, valued)
        (ours if taken else others).extend(words[position : position + (taken or 1)])
        position += taken or 1
    return ours, others


def leading(
    words: Sequence[str], flags: Collection[str], valued: Collection[str]
) -> tuple[list[str], list[str]]:
    """Our words at the front, and from the first other word on the rest; a "--" between them is dropped."""
    position = 0
    while position < len(words):
        if words[position] == "--":
            return list(words[:position]), list(words[position + 1 :])
        if not words[position].startswith("-"):
            break
        position += _taken(words[position], flags, valued) or 1
    return list(words[:position]), list(words[position:])


def _taken(word: str, flags: Collection[str], valued: Collection[str]) -> int:
    """How many words an option of ours takes: 0 for other words."""
    name, equals, _ = word.partition("=")
    if name in valued:
        return 1 if equals else 2
    return 1 if word in flags else 0
