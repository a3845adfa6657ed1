"""Thoughts in front of the content: what a client sees, and that just these are taken out again."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasoning_fix.engine.history import Fingerprints
from reasoning_fix.engine.showing import STYLES, Showing, Style, mark, unshown

MARKS = Fingerprints(b"k" * 32)
OTHERS = Fingerprints(b"o" * 32)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=30) | st.sampled_from(
    [
        "a\n\n</details>\n",
        "> x\n> y\n",
        "\n",
        "<details><summary>Thinking</summary>\n\n",
        "<!-- reasoning-fix -->\n\n",
    ]
)
CALL = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
EVERY_STYLE = pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)


def events(*deltas: dict[str, Any], finish: str = "stop") -> bytes:
    told: list[Any] = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    told.append(
        {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}], "usage": {"total_tokens": 1}}
    )
    return b"".join(b"data: %b\n\n" % json.dumps(one).encode() for one in told) + b"data: [DONE]\n\n"


def seen(stream: bytes) -> tuple[str, str]:
    """The content that a client puts together, and the reasoning in its own field."""
    found = [json.loads(part[6:]) for part in stream.split(b"\n\n") if part.startswith(b"data: {")]
    deltas = [choice["delta"] for one in found for choice in one["choices"]]
    return (
        "".join(delta.get("content") or "" for delta in deltas),
        "".join(delta.get("reasoning_content") or "" for delta in deltas),
    )


def request(content: Any, **more: Any) -> bytes:
    said = {"role": "assistant", "content": content} | more
    return json.dumps(
        {"messages": [{"role": "user", "content": "hi"}, said, {"role": "user", "content": "go"}]}
    ).encode()


def sent(body: bytes, marks: Fingerprints = MARKS) -> Any:
    return json.loads(unshown(body, marks))["messages"][1]["content"]


@EVERY_STYLE
@given(thoughts=st.lists(TEXTS, min_size=1, max_size=4), texts=st.lists(TEXTS, max_size=3), data=st.data())
def test_what_is_shown_is_taken_out_again(
    style: Style, thoughts: list[str], texts: list[str], data: st.DataObject
) -> None:
    stream = events(*({"reasoning_content": t} for t in thoughts), *({"content": t} for t in texts))
    showing, shown, at = Showing(MARKS, style), b"", 0
    while at < len(stream):
        step = data.draw(st.integers(1, 200))
        shown += showing.feed(stream[at : at + step])
        at += step
    shown += showing.end()
    content, reasoning = seen(shown)
    thought, said = "".join(thoughts), "".join(texts)
    assert reasoning == thought, "clients that read the field still find it"
    if not thought:
        assert content == said
        return
    assert content.startswith(style.opening + thought.replace("\n", style.line_end)) and content.endswith(
        said
    )
    assert (sent(request(content)) or "") == said
    parts = [{"type": "text", "text": content}]
    assert sent(request(parts))[0]["text"] == said
    assert sent(request(content), OTHERS) == content, "another person's proxy knows no such mark"


@EVERY_STYLE
def test_a_turn_with_calls_only(style: Style) -> None:
    for delta, original in (({}, None), ({"content": ""}, "")):
        stream = events(
            {"reasoning_content": "Call it."}, {"tool_calls": [CALL]} | delta, finish="tool_calls"
        )
        content, _ = seen(Showing(MARKS, style).feed(stream))
        assert "Call it." in content
        for kept in (content, content.rstrip()):
            assert sent(request(kept, tool_calls=[CALL])) == original
        showing = Showing(MARKS, style)
        message = {
            "role": "assistant",
            "content": original,
            "reasoning_content": "Call it.",
            "tool_calls": [CALL],
        }
        whole = json.loads(
            showing.whole(json.dumps({"choices": [{"index": 0, "message": message}]}).encode())
        )
        assert whole["choices"][0]["message"]["content"] == content


@EVERY_STYLE
def test_what_merely_looks_like_it_stays(style: Style) -> None:
    content, _ = seen(
        Showing(MARKS, style).feed(events({"reasoning_content": "A thought."}, {"content": "Text."}))
    )
    assert sent(request(content)) == "Text."
    forged = mark(OTHERS, "A thought.", is_null=False)
    for other in (
        content.replace("A thought.", "A thought!"),
        content.replace("Text.", "").replace("<!-- reasoning-fix", "<!-- reasoning-fax"),
        f"{style.opening}A thought.{style.closing}{forged}Text.",
        f"See: {content}",
        "Text.",
    ):
        assert sent(request(other)) == other
    body = request(content).replace(b'"assistant"', b'"user"')
    assert unshown(body, MARKS) is body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"messages":1}',
        b'{"messages":["reasoning-fix"]}',
        b'{"messages":[{"role":"assistant","content":"reasoning-fix \\ud83d"}]}',
    ],
)
def test_odd_requests_stay_as_they_are(body: bytes) -> None:
    assert unshown(body, MARKS) == body


@pytest.mark.parametrize(
    "stream",
    [
        b"data: {\n\n",
        b": comment\n\ndata: [DONE]\n\n",
        b'data: {"choices":[1]}\n\n',
        b'data: {"choices":[{"delta":null}]}\n\n',
        b'event: x\ndata: {"choices":[]}\n\n',
        b"x" * 2_000_000,
        b'{"error":{"message":"no"}}',
    ],
)
def test_odd_answers_stay_as_they_are(stream: bytes) -> None:
    showing = Showing(MARKS, STYLES["details"])
    assert showing.feed(stream) + showing.end() == stream
    assert Showing(MARKS, STYLES["details"]).whole(stream) == stream


def test_choices_are_kept_apart() -> None:
    def event(*choices: tuple[int, dict[str, str]]) -> bytes:
        told = [{"index": i, "delta": delta, "finish_reason": None} for i, delta in choices]
        return b"data: %b\n\n" % json.dumps({"choices": told}).encode()

    stream = event((0, {"reasoning_content": "A"}), (1, {"reasoning_content": "B"})) + event(
        (1, {"content": "b"}), (0, {"content": "a"})
    )
    shown = Showing(MARKS, STYLES["details"]).feed(stream)
    found = [json.loads(part[6:]) for part in shown.split(b"\n\n") if part]
    contents = {0: "", 1: ""}
    for one in found:
        for choice in one["choices"]:
            contents[choice["index"]] += choice["delta"]["content"]
    assert [sent(request(contents[i])) for i in (0, 1)] == ["a", "b"]
