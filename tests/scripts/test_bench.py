"""What the bench concludes from its figures."""

import pytest

from scripts.benchmark.conversation import Conversation
from scripts.benchmark.figures import Figure, costs, table


@pytest.mark.parametrize(
    ("values", "at_least", "verdict"),
    [
        ([1.0, 1.1, 1.1, 1.2, 1.3], False, "met"),
        ([1.15], False, "met"),
        ([1.16], False, "MISSED"),
        ([1.0, 1.1, 1.2, 1.3, 1.4], False, "within the spread"),
        ([1.1, 1.2, 1.2, 1.3, 1.4], False, "MISSED"),
        ([1.2, 1.2, 1.1, 1.3, 1.4], True, "met"),
        ([1.14], True, "MISSED"),
        ([1.0, 1.1, 1.1, 1.2, 1.3], True, "within the spread"),
        ([1.0, 1.1, 1.1, 1.1, 1.3], True, "MISSED"),
        ([], False, "not measured"),
    ],
)
def test_a_budget_is_missed_when_three_quarters_of_the_rounds_miss_it(
    values: list[float], at_least: bool, verdict: str
) -> None:
    figure = Figure("x", values, 1.15, at_least)
    assert figure.verdict == verdict
    assert figure.cells()[4] == verdict


def test_costs_are_compared_with_the_size_before() -> None:
    rows = costs("x", [("1", 1.0, 0.002), ("10", 10.0, 0.03)])
    assert [row.cells() for row in rows] == [
        ["x", "1", "2.00 ms", "", ""],
        ["x", "10", "30.00 ms", "15.0", "10.0"],
    ]


def test_a_table_is_lined_up() -> None:
    assert table(["a", "bb"], [["ccc", "d"]]) == "| a   | bb |\n| --- | -- |\n| ccc | d  |"


def test_a_conversation_grows_at_its_end_only() -> None:
    conversation = Conversation(20, 100_000)
    assert 90_000 < len(conversation.sent) < 110_000
    assert len(conversation.complete) > len(conversation.sent) + 20 * 800
    assert b"reasoning_content" not in conversation.sent
    assert conversation.before(0) == conversation.sent
    history = conversation.before(1).partition(b',"tools"')[0]
    assert conversation.sent.startswith(history.removesuffix(b"]"))
    assert Conversation(20, 100_000).complete == conversation.complete
