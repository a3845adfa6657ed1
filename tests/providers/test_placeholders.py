"""What only stands in for a thought, in whatever words, and what is a thought however short."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasoning_fix.providers.placeholders import LONGEST
from reasoning_fix.providers.table import load_table

TABLE = load_table()

# The sources of those in public code are named in providers.toml.
PLACEHOLDERS = [
    # nothing, or marks alone
    "", " ", "\n\t", " " * 500, ".", " . ", "..", "...", "…", "-", "—", "--", "·", "*", "???", "[]", "[...]",
    # values that were printed though they were missing
    "n/a", "N/A", "null", "None", "undefined",
    # in brackets
    "[reasoning unavailable]", "[Reasoning unavailable]\n", "[previous reasoning unavailable]",
    "(thinking omitted)", "(reasoning omitted)", "(prior reasoning summary unavailable)",
    "(prior reasoning not preserved)", "(prior reasoning unavailable)", "(no reasoning)", "(thinking)",
    "(reasoning omitted — not preserved across turns)", "(no reasoning content recorded for this turn)",
    "[no reasoning provided]", "(No reasoning content provided)", "[No reasoning block provided by model]",
    "[missing_reasoning_content]", "[reasoning not captured]", "[encrypted reasoning]",
    "[encrypted thinking omitted]", "[thinking omitted: 15 bytes]", "[Thinking redacted by provider]",
    "[redacted thinking]", "[redacted_thinking]", "[older reasoning elided]", "<reasoning omitted>",
    "<reasoning omitted/>", "<!-- reasoning removed -->", "<think></think>", "*(thinking hidden)*",
    "_[thoughts removed]_", "{reasoning stripped}", "(chain of thought hidden)", "(reasoning omitted).",
    "[redacted: model produced reasoning but content was withheld by provider]",
    "[redacted]", "[REDACTED]", "(omitted)", "[none]", "(empty)", "[not available]", "<unavailable>",
    "[content omitted]", "(summary unavailable)", "[reasoning not on record]",
    "【思考内容缺失】", "（无推理内容）",
    # with digits behind, ours among them
    "[reasoning not on record 0123abcd]", "[reasoning not on record 0]\n",
    "[reasoning unavailable 7f3c]", "(thinking omitted #12)",
    # without brackets
    "Thinking...", "Thinking…", "thinking", "Reasoning...", "Reasoning unavailable", "reasoning omitted.",
    "Reasoning not available.", "Thinking hidden", "No reasoning", "no reasoning content", "No thoughts.",
    "No reasoning provided.", "no prior reasoning available", "Previous thinking was not preserved.",
    "chain of thought redacted", "Redacted thinking", "Reasoning: none", "reasoning unavailable 0a1b2c3d",
    "Continuing prior assistant turn.", "思考...", "思考内容缺失", "没有思考过程", "推理内容已省略",
]  # fmt: skip

THOUGHTS = [
    "OK", "Ok.", "No.", "Yes", "0", "42", "0123abcd", "a", "Hm.", "Done", "好。", "无", "不", "🌦 rain",
    "I think", "I think so.", "Think about it.", "Thinking... about it", "Thinking about the file.",
    "No reasoning needed: the user greets.", "No reasoning needed", "No thinking required.",
    "(Wait, the file is missing)", "(no files)", "(No tool call for this turn)", "[1, 2, 3]",
    "(a)", "(not yet)",
    "The file is missing.", "File not available", "The reasoning is missing a step.",
    "The previous thinking was wrong.", "Reasoning about the missing record.", "[x] done", "{\"a\": 1}",
    "(The user wants no summary)", "[reasoning not on record 0123abcd] so",
    "[reasoning unavailable] But I see",
    "The content is hidden.", "Content missing.", "Output omitted", "No content", "Nothing is lost.",
    "Let me check.", "Check the history of this message.", "Summary: none of the tests fail",
    "无需思考", "思考一下这个文件", "Überlegung fehlt", "(думаю)", "Missing.", "Hidden?", "Not available",
    "The model is not available", "no record", "Empty", "Placeholder text in the form",
    "x" * (LONGEST + 1), "." * 60,
]  # fmt: skip


@pytest.mark.parametrize("text", PLACEHOLDERS)
def test_placeholders(text: str) -> None:
    for spelling in (text, text.upper(), f"  {text}\n"):
        assert TABLE.is_placeholder(spelling), spelling


@pytest.mark.parametrize("text", THOUGHTS)
def test_thoughts(text: str) -> None:
    for spelling in (text, text.upper(), f"  {text}\n"):
        assert not TABLE.is_placeholder(spelling), spelling


@given(st.sampled_from(PLACEHOLDERS), st.text("qxyzQß", min_size=1, max_size=20))
def test_a_foreign_word_makes_it_a_thought(text: str, word: str) -> None:
    assert not TABLE.is_placeholder(f"{text} {word}")
    assert not TABLE.is_placeholder(f"{word} {text}")


@given(st.text(max_size=LONGEST + 20))
def test_any_text_is_one_or_the_other(text: str) -> None:
    assert TABLE.is_placeholder(text) is TABLE.is_placeholder(f" {text} ")


@pytest.mark.parametrize(
    ("text", "echo"),
    [
        ("[reasoning unavailable]", True), (".", True), ("…", True), ("Thinking...", True), ("n/a", True),
        ("?!", False), ("→", False), ("", False), (" ", False), ("\n\n", False), ("OK", False), 
        ("x" * 999, False),
    ],
)  # fmt: skip
def test_what_a_model_only_repeats_from_its_history(text: str, echo: bool) -> None:
    assert TABLE.is_echo(text) is echo


def test_the_words_are_lower_case_and_of_one_kind() -> None:
    words = [word for name in TABLE.words.__struct_fields__ for word in getattr(TABLE.words, name)]
    assert [word for word in words if word != word.lower()] == []
    assert sorted(set(words)) == sorted(words)


def test_a_long_thought_costs_no_search() -> None:
    """Not measured in seconds but in steps: no part of it is looked at."""

    class Thought(str):
        def strip(self, characters: str | None = None, /) -> str:
            raise AssertionError("looked through")

    assert not TABLE.is_placeholder(Thought("Look at the file. " * 1000))
