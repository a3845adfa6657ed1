"""Every error body is recognised or left alone, whatever its envelope, its content type and its wrapping."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasoning_fix.providers.refusals import LONGEST, Recognised, recognise
from reasoning_fix.providers.table import load_table
from tests import SAMPLES

TABLE = load_table()
ERRORS = SAMPLES / "errors"
KIMI = "thinking is enabled but reasoning_content is missing in assistant tool call message at index 3"

MISSING = Recognised("missing")
FORBIDDEN = Recognised("forbidden", "reasoning_content")
ALWAYS = Recognised("always_thinks")
TOO_LONG = Recognised("too_long")
MEANINGS = {
    "cerebras-error-forbidden.400.json": FORBIDDEN,
    "deepseek-chat-error-old.400.json": MISSING,
    "deepseek-chat-error-toolchoice.400.json": Recognised("tool_choice"),
    "deepseek-chat-error.400.json": MISSING,
    "deepseek-messages-error.400.json": MISSING,
    "deepseek-responses-error.400.json": MISSING,
    "glm-error-cannot-disable-cn.400.json": ALWAYS,
    "glm-error-cannot-disable.400.json": ALWAYS,
    "groq-error-forbidden.400.json": FORBIDDEN,
    "kimi-chat-error-empty-text.400.json": None,
    "kimi-chat-error-thinking-off.400.json": ALWAYS,
    "kimi-chat-error.400.json": MISSING,
    "kimi-messages-error.400.json": MISSING,
    "kimi-relay-error.400.json": MISSING,
    "mimo-error-null-content.400.http-body": None,
    "mimo-error.400.http-body": MISSING,
    "minimax-error-pairing.400.json": None,
    "mistral-error-forbidden.422.json": FORBIDDEN,
    "opencode-go-error-nested.400.json": MISSING,
    "opencode-go-error-opaque.400.json": None,
    "opencode-go-error-session.400.json": None,
    "opencode-go-error.400.json": MISSING,
    "openrouter-error-nested.400.json": MISSING,
    "relay-trace-error.400.json": MISSING,
    "siliconflow-error.400.json": MISSING,
    "anthropic-error-missing.400.json": MISSING,
    "anthropic-error-too-large.413.json": TOO_LONG,
    "anthropic-error-too-long-with-output.400.json": TOO_LONG,
    "anthropic-error-too-long.400.json": TOO_LONG,
    "bedrock-error-too-long.400.json": TOO_LONG,
    "dashscope-error-too-long.400.json": TOO_LONG,
    "fireworks-error-too-long.400.json": TOO_LONG,
    "gateway-error-required.400.json": MISSING,
    "glm-error-too-long-1210.400.json": TOO_LONG,
    "glm-error-too-long-1261-cn.400.json": TOO_LONG,
    "glm-error-too-long-1261.400.json": TOO_LONG,
    "groq-error-too-long.400.json": TOO_LONG,
    "kimi-error-too-long.400.json": TOO_LONG,
    "litellm-error-missing.400.json": MISSING,
    "llama-cpp-error-too-long.400.json": TOO_LONG,
    "lm-studio-error-too-long.400.json": TOO_LONG,
    "minimax-error-too-long.400.json": TOO_LONG,
    "mistral-error-too-long.400.json": TOO_LONG,
    "new-api-error-missing.400.json": MISSING,
    "ollama-error-too-long.400.json": TOO_LONG,
    "openai-error-too-long.400.json": TOO_LONG,
    "openai-responses-error-missing.400.json": MISSING,
    "openai-responses-error-too-long.400.json": TOO_LONG,
    "opencode-error-too-long.400.json": TOO_LONG,
    "qianfan-error-too-long.400.json": TOO_LONG,
    "relay-error-missing-cn.400.json": MISSING,
    "schema-error-missing.422.json": MISSING,
    "sglang-error-too-long.400.json": TOO_LONG,
    "siliconflow-error-too-long.400.json": TOO_LONG,
    "tgi-error-too-long.400.json": TOO_LONG,
    "together-error-too-long.400.json": TOO_LONG,
    "vertex-error-too-long.400.json": TOO_LONG,
    "vllm-error-too-long.400.json": TOO_LONG,
    "volcengine-error-too-long.400.json": TOO_LONG,
    "xai-error-too-long.400.json": TOO_LONG,
}


def test_every_sample_is_in_the_table() -> None:
    assert {path.name for path in ERRORS.iterdir()} == set(MEANINGS)


@pytest.mark.parametrize(("name", "meaning"), MEANINGS.items())
def test_samples(name: str, meaning: Recognised | None) -> None:
    assert recognise((ERRORS / name).read_bytes(), TABLE) == meaning


# What providers say besides in much the same words: nothing of ours repairs it.
UNRELATED: dict[str, str] = json.loads((ERRORS.parent / "other-refusals.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("text", UNRELATED.values(), ids=UNRELATED)
def test_other_refusals_are_left_alone(text: str) -> None:
    assert recognise(text.encode(), TABLE) is None
    error = {"message": text, "type": "invalid_request_error"}
    for body in (
        {"error": error | {"param": None, "code": "invalid_request_error"}},
        {"type": "error", "error": error},
        {"code": 20015, "message": text, "data": None},
        {"error": {"message": "Provider returned error", "metadata": {"raw": json.dumps({"error": error})}}},
    ):
        assert recognise(json.dumps(body).encode(), TABLE) is None


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        (
            "Item 'msg_1' of type 'message' was provided without its required 'reasoning' item: 'rs_1'.",
            MISSING,
        ),
        (
            "messages.69.content.0.type: Expected `thinking` or `redacted_thinking`, but found `text`.",
            MISSING,
        ),
        ("messages.2.reasoning_content: Field required", MISSING),
        ("Missing required parameter: 'messages[2].reasoning_content'.", MISSING),
        ("参数错误：reasoning_content 不能为空", MISSING),
        ("assistant 消息缺少 reasoning_content", MISSING),
        ("The `reasoning_content` from the last turn must be sent back", MISSING),
        ("input length and max_tokens exceed context limit: 90402 + 116650 > 204648", TOO_LONG),
        ("Prompt has 32769 tokens, but the configured context size is 32768 tokens", TOO_LONG),
        # Longer by what was put back, the output that fitted before may not fit any more.
        (
            "max_tokens is too large: 32768. This model's maximum context length "
            "is 131072 tokens and your request has 100000 input tokens (32768 > 131072 - 100000).",
            TOO_LONG,
        ),
        ("The reasoning_content in the thinking mode must be passed back to the API.", MISSING),
        ("THE `REASONING_CONTENT` IN THE THINKING MODE MUST BE PASSED BACK", MISSING),
        ("messages.0.reasoning_content: Extra inputs are not permitted", FORBIDDEN),
        (
            "Extra inputs are not permitted, field: 'messages[2].reasoning'",
            Recognised("forbidden", "reasoning"),
        ),
        ("Unrecognized request argument supplied: reasoning_content", FORBIDDEN),
        ("Invalid value for 'reasoning_content'", FORBIDDEN),
        ("invalid temperature: only 1 is allowed for this model", Recognised("parameter", "temperature")),
        ("invalid top_p: only 0.95 is allowed for this model", Recognised("parameter", "top_p")),
        (
            "cannot specify both 'thinking' and 'reasoning_effort'",
            Recognised("parameter", "reasoning_effort"),
        ),
        ("tool_choice 'required' is incompatible with thinking enabled", Recognised("tool_choice")),
        ("tool_choice 'specified' is incompatible with thinking enabled", Recognised("tool_choice")),
        (
            "This model's maximum context length is 131072 tokens. However, you requested 140000",
            Recognised("too_long"),
        ),
        ("Invalid request: Your request exceeded model token limit: 262144", Recognised("too_long")),
        ("text content is empty", None),
        ("Invalid assistant message: content or tool_calls must be set", None),
        ("messages[2]: missing field id", None),
        ("Extra inputs are not permitted, field: 'messages[2].foo'", None),
        ("Authentication Fails, Your api key is invalid", None),
        ("", None),
    ],
)
def test_texts(text: str, meaning: Recognised | None) -> None:
    assert recognise(text.encode(), TABLE) == meaning
    assert recognise(json.dumps({"error": {"message": text}}).encode(), TABLE) == meaning


def wrapped(times: int) -> bytes:
    body = json.dumps({"error": {"message": f'say "{KIMI}" [trace_id=7f]'}})
    for _ in range(times):
        body = json.dumps({"metadata": {"raw": body}})
    return body.encode()


@pytest.mark.parametrize("times", [0, 1, 2])
@pytest.mark.parametrize("lead", [b"", b"data:", b"data: ", b"\n\n "])
def test_wrappings(times: int, lead: bytes) -> None:
    assert recognise(lead + wrapped(times), TABLE) == MISSING


def test_escaped_letters_are_read() -> None:
    body = json.dumps({"message": "该模型始终思考，不支持关闭思考；"}, ensure_ascii=True).encode()
    assert b"\\u" in body and recognise(body, TABLE) == ALWAYS


def test_only_the_beginning_of_a_long_body_counts() -> None:
    assert recognise(b" " * LONGEST + KIMI.encode(), TABLE) is None


def test_texts_are_unwrapped_three_times_and_no_more() -> None:
    # Letters that are escaped at the innermost level are read only where it is reached.
    text = json.dumps({"message": KIMI}).replace("reasoning", "\\u0072easoning")
    for _ in range(2):
        text = json.dumps({"raw": text})
    assert recognise(text.encode(), TABLE) == MISSING
    assert recognise(json.dumps({"raw": text}).encode(), TABLE) is None


def test_deep_nesting_is_no_fault() -> None:
    assert recognise(b'{"a":' * 5000 + b"1" + b"}" * 5000, TABLE) is None


@given(st.binary(max_size=300))
def test_any_bytes_are_no_fault(body: bytes) -> None:
    recognise(body, TABLE)
