"""Which words of a command line are ours: tables of cases."""

from collections.abc import Sequence

import pytest

from reasoning_fix.cli.words import anywhere, leading

FLAGS, VALUED = ("--upstream", "-h"), ("--reverse", "--keep")


@pytest.mark.parametrize(
    ("words", "ours", "others"),
    [
        ([], [], []),
        (["--reverse", "a", "-p", "1"], ["--reverse", "a"], ["-p", "1"]),
        (["-p", "1", "--reverse=a", "--upstream"], ["--reverse=a", "--upstream"], ["-p", "1"]),
        (["--set", "mode=regular", "~d x"], [], ["--set", "mode=regular", "~d x"]),
        (["--reverse"], ["--reverse"], []),
        (["--reversed", "a", "--upstream=1"], [], ["--reversed", "a", "--upstream=1"]),
        (["--keep", "--upstream", "-q"], ["--keep", "--upstream"], ["-q"]),
    ],
)
def test_ours_anywhere(words: Sequence[str], ours: Sequence[str], others: Sequence[str]) -> None:
    assert anywhere(words, FLAGS, VALUED) == (ours, others)


@pytest.mark.parametrize(
    ("words", "ours", "others"),
    [
        ([], [], []),
        (["curl", "-h"], [], ["curl", "-h"]),
        (["--", "curl", "--", "x"], [], ["curl", "--", "x"]),
        (["-h", "--keep", "3", "curl", "--upstream"], ["-h", "--keep", "3"], ["curl", "--upstream"]),
        (["--keep=3", "--", "-odd", "x"], ["--keep=3"], ["-odd", "x"]),
        (["--unknown", "curl"], ["--unknown"], ["curl"]),
        (["--keep", "--", "curl"], ["--keep", "--"], ["curl"]),
    ],
)
def test_ours_at_the_front(words: Sequence[str], ours: Sequence[str], others: Sequence[str]) -> None:
    assert leading(words, FLAGS, VALUED) == (ours, others)
