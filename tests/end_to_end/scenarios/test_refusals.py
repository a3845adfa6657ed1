"""Refusals wherever they come: in a document or stream with status 200, and as gateways pass them on.

Where a thought is missing, the request is repaired and sent again, and the client sees the good answer alone.
What is not known passes untouched. A good stream is not held back for it.
"""

import json
import threading

import msgspec
import pytest

from tests.laboratory import NOTHING, Lab, by_turns, either_way, named
from tests.provider.refusals import DEEPSEEK_MISSING, KIMI_MISSING
from tests.strict import Answer, Demands, Place, Refuses, Rule, call, document, refusal, relayed, thought
from tests.wires import Entry, Said

OPENROUTER = Place("openrouter.ai", "/api/v1/chat/completions", "deepseek/deepseek-v4-pro", "reasoning")
OPENCODE = Place("opencode.ai", "/zen/go/v1/chat/completions", "some-new-model")
SILICONFLOW = Place("api.siliconflow.cn", "/v1/chat/completions", "Pro/moonshotai/Kimi-K2.5")
OPENROUTER_MESSAGES = Place("openrouter.ai", "/api/v1/messages", "acme/nova-2")
OPENCODE_MESSAGES = Place("opencode.ai", "/zen/go/v1/messages", "some-new-model")
OPENROUTER_RESPONSES = Place("openrouter.ai", "/api/v1/responses", "acme/nova-2")
OPENCODE_RESPONSES = Place("opencode.ai", "/zen/v1/responses", "some-new-model")
# None of these is sent words at first: each meets its refusal.
PLACES = [OPENROUTER, SILICONFLOW, OPENCODE_MESSAGES, OPENROUTER_RESPONSES]
EVERY_PLACE = [*PLACES, OPENCODE, OPENROUTER_MESSAGES, OPENCODE_RESPONSES]

MISSING = KIMI_MISSING.format(1)
GOOD = Said(text="Good.")


def _failed(text: str) -> Answer:
    """https://github.com/continuedev/continue/issues/13260."""
    inner = json.dumps({"error": {"message": text, "type": "invalid_request_error"}})
    message = f"All model providers failed: deepseek: Invalid status code: 400 Bad Request: {inner}"
    return refusal(message, 502)


def _litellm(text: str) -> Answer:
    """https://github.com/esengine/DeepSeek-Reasonix/pull/6173."""
    error = {"message": f"litellm.BadRequestError: {text}", "type": None, "param": None, "code": "400"}
    return document({"error": error})


def _base_resp(text: str, code: int = 2013, status: int = 200) -> Answer:
    """MiniMax's: https://platform.minimax.io/docs/api-reference/errorcode."""
    return document({"base_resp": {"status_code": code, "status_msg": text}, "choices": None}, status)


def _code(text: str, status: int) -> Answer:
    """SiliconFlow's: https://github.com/labring/FastGPT/issues/6357."""
    return document({"code": 20015, "message": text, "data": None}, status)


SAYS_MISSING = {
    "404 of a gateway": relayed(DEEPSEEK_MISSING, 404, "DeepSeek"),
    "422 of a gateway": refusal(DEEPSEEK_MISSING, 422),
    "502 of a gateway": _failed(DEEPSEEK_MISSING),
    "503 of a gateway": refusal(f"Error from provider (Moonshot AI): {MISSING}", 503),
    "529 of a gateway": refusal(DEEPSEEK_MISSING, 529),
    "LiteLLM's words": _litellm(
        "messages[51]: assistant message with tool_calls must include reasoning_content"
    ),
    "a document of status 200": refusal(DEEPSEEK_MISSING, 200),
    "a document of status 200, relayed": relayed(MISSING, 200, "Moonshot AI"),
    "a code of status 200": _code(MISSING, 200),
    "a base_resp of status 200": _base_resp(f"invalid params, {MISSING} (2013)"),
}
OTHER = {
    "404": refusal("The model `x` does not exist.", 404),
    "429": refusal("Rate limit reached.", 429),
    "500": refusal("Internal server error.", 500),
    "502": refusal("All model providers failed: connection reset.", 502),
    "529": refusal("The engine is overloaded.", 529),
    "a page": Answer(502, [b"<html>Bad gateway: reasoning is off today</html>"], "text/html"),
    "a document of status 200": refusal("Insufficient credits.", 200),
    "a code of status 200": document({"code": 50501, "message": "System busy.", "data": None}, 200),
    "a base_resp of status 200": _base_resp("rate limit", 1002),
}

COMMENTS = b": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\n"


def _event(data: Entry, name: str = "") -> bytes:
    return (f"event: {name}\n" if name else "").encode() + b"data: " + json.dumps(data).encode() + b"\n\n"


def _first_events(place: Place, text: str) -> dict[str, bytes]:
    """The streams by which a refusal comes as the first event, on the wire of this place."""
    error = {"message": text, "type": "invalid_request_error"}
    if place.wire.name == "messages":
        event = _event({"type": "error", "error": error}, "error")
        return {
            "an error": event,
            "an error after a ping": b'event: ping\ndata: {"type": "ping"}\n\n' + event,
        }
    if place.wire.name == "responses":
        failed = {"id": "resp_1", "object": "response", "status": "failed", "error": error, "output": []}
        return {
            "an error": _event({**error, "type": "error", "code": "invalid_request_error"}, "error"),
            "a failed response": _event({"type": "response.failed", "response": failed}, "response.failed"),
        }
    choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}
    relay = {"message": "Provider returned error", "metadata": {"raw": json.dumps({"error": error})}}
    done = b"data: [DONE]\n\n"
    return {
        "an error": _event({"error": error}),
        "an error with a choice": _event({"id": "gen-1", "error": relay, "choices": [choice]}) + done,
        "a code": _event({"code": 20015, "message": text, "data": None}) + done,
        "a base_resp": _event({"base_resp": {"status_code": 2013, "status_msg": text}, "choices": None}),
    }


def _stream(events: bytes, commented: bool) -> Answer:
    return Answer(200, [COMMENTS, events] if commented else [events], "text/event-stream")


FIRST = [
    pytest.param(place, name, id=f"{name}, {place}")
    for place in EVERY_PLACE
    for name in _first_events(place, "")
]


def _wants_words(place: Place, no: Answer) -> Rule:
    return Demands(place, accepts=lambda text: bool(text.strip()), no=no)


def _is_good(lab: Lab, place: Place, rule: Rule, streamed: bool) -> None:
    """A turn that nobody recorded meets a refusal that the client never sees; the answer is recorded."""
    lab.behaves(rule)
    talk = lab.talk(place, streamed)
    talk.brings(call(thought=None))
    good = call()
    seen = talk.send(good)
    # Comments are no events: they may have gone on before the refusal came.
    events = seen.body.removeprefix(COMMENTS)
    assert (seen.status, events) == (200, b"".join(place.wire.answer(good, streamed, place.field)))
    assert len(talk.got) == 2
    assert talk.send(GOOD).status == 200
    assert len(talk.got) == 1
    assert talk.accepted.readable[-1] == [good.thought]


def _passes(lab: Lab, place: Place, no: Answer, streamed: bool) -> None:
    """An answer that means nothing passes as it is, whether or not the request was changed."""
    lab.behaves()
    talk = lab.talk(place, streamed)
    lab.behaves(Refuses(lambda asked: True, no))
    seen = talk.send()
    assert (seen.status, seen.body) == (no.status, no.body)
    assert talk.changes == [NOTHING]
    lab.behaves()
    restored = lab.talk(place, streamed)
    said = call()
    restored.send(said)
    lab.behaves(Refuses(lambda asked: True, no))
    seen = restored.send(no)
    assert (seen.status, seen.body) == (no.status, no.body)
    assert len(restored.got) == 1
    assert restored.accepted.readable == [[said.thought]]


@by_turns(place=named(PLACES), no=SAYS_MISSING)
def test_a_missing_thought_is_repaired_however_it_is_said(
    lab: Lab, place: Place, no: Answer, streamed: bool
) -> None:
    _is_good(lab, place, _wants_words(place, no), streamed)


@pytest.mark.parametrize("commented", [False, True], ids=["at once", "after comments"])
@pytest.mark.parametrize(("place", "name"), FIRST)
def test_a_missing_thought_is_repaired_where_the_first_event_says_it(
    lab: Lab, place: Place, name: str, commented: bool
) -> None:
    events = _first_events(place, MISSING)[name]
    _is_good(lab, place, _wants_words(place, _stream(events, commented)), True)


@by_turns(place=named(PLACES), no=OTHER)
def test_other_refusals_pass_untouched(lab: Lab, place: Place, no: Answer, streamed: bool) -> None:
    _passes(lab, place, no, streamed)


@pytest.mark.parametrize("commented", [False, True], ids=["at once", "after comments"])
@pytest.mark.parametrize(("place", "name"), FIRST)
def test_other_first_events_pass_untouched(lab: Lab, place: Place, name: str, commented: bool) -> None:
    _passes(lab, place, _stream(_first_events(place, "Rate limit reached.")[name], commented), True)


@pytest.mark.parametrize("commented", [False, True], ids=["at once", "after comments"])
@pytest.mark.parametrize("place", EVERY_PLACE, ids=str)
def test_a_good_stream_is_not_held_back(lab: Lab, place: Place, commented: bool) -> None:
    """The provider sends its second event only when the client has the first."""
    gate = threading.Event()
    first, *others = place.wire.answer(call(), True, place.field)
    first = COMMENTS + first if commented else first
    lab.servers.script.append(Answer(200, [first, *others], "text/event-stream", gate))
    response = lab.open(place, lab.talk(place, True).body(), "sk-lab-first-event")
    assert response.read(len(first)) == first
    gate.set()
    assert response.read() == b"".join(others)
    assert not lab.servers.waited_in_vain


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_an_error_in_the_midst_of_a_stream_passes(lab: Lab, place: Place) -> None:
    """The client has seen events by then: nothing can be taken back."""
    first = b"".join(place.wire.answer(call(), True, place.field)[:-2])
    for events in _first_events(place, MISSING).values():
        broken = _stream(first + events, False)
        lab.behaves(Refuses(lambda asked: True, broken))
        talk = lab.talk(place, True)
        seen = talk.send()
        assert (seen.status, seen.body) == (200, broken.body)
        assert len(talk.got) == 1


TOO_LONG = [
    (
        [
            Place("api.z.ai", "/api/coding/paas/v4/chat/completions", "glm-5.2"),
            Place("open.bigmodel.cn", "/api/paas/v4/chat/completions", "glm-5.2"),
            Place("opencode.ai", "/zen/go/v1/chat/completions", "glm-5.2"),
        ],
        {
            "code 1210": document(
                {"error": {"code": "1210", "message": "tokens in request more than max tokens allowed"}}
            ),
            "code 1261": document({"error": {"code": "1261", "message": "Prompt exceeds max length"}}),
            "a context length": refusal(
                "This model's maximum context length is 131072 tokens. However, you requested 131090 tokens."
            ),
            "413": refusal("context_length_exceeded", 413),
        },
    ),
    (
        [
            Place("api.z.ai", "/api/anthropic/v1/messages", "glm-5.2"),
            Place("openrouter.ai", "/api/v1/messages", "anthropic/claude-opus-4.8"),
        ],
        {
            "Anthropic's words": refusal(
                "input length and `max_tokens` exceed context limit: 199759 + 8192 > 200000, decrease input "
                "length or `max_tokens` and try again"
            ),
            "Anthropic's other words": refusal("prompt is too long: 210000 tokens > 200000 maximum"),
        },
    ),
    (
        [
            Place("api.minimax.io", "/v1/chat/completions", "MiniMax-M3"),
            Place("api.minimaxi.com", "/v1/chat/completions", "MiniMax-M2.7"),
        ],
        {
            "a base_resp": _base_resp("invalid params, context window exceeds limit (2013)"),
            "a base_resp of status 400": _base_resp(
                "invalid params, context window exceeds limit (2013)", status=400
            ),
        },
    ),
    (
        [SILICONFLOW],
        {
            "a code": _code("length of prompt_tokens (131073) must be less than max_seq_len (131072).", 400),
            "a code of status 200": _code(
                "length of prompt_tokens (131073) must be less than max_seq_len (131072).", 200
            ),
        },
    ),
    (
        [Place("api.moonshot.cn", "/v1/chat/completions", "kimi-k2.6")],
        {
            "Kimi's words": refusal(
                "Invalid request: Your request exceeded model token limit: 262144 (requested: 262500)"
            )
        },
    ),
]


@either_way
@pytest.mark.parametrize(
    ("place", "no"),
    [
        pytest.param(place, no, id=f"{name}, {place}")
        for places, ways in TOO_LONG
        for place in places
        for name, no in ways.items()
    ],
)
def test_what_is_too_long_is_sent_again_with_less(lab: Lab, place: Place, no: Answer, streamed: bool) -> None:
    rule = Refuses(lambda asked: any(turn.readable for turn in asked.turns), no)
    lab.behaves(rule)
    talk = lab.talk(place, streamed)
    talk.send(Said(thought=thought(), text="The answer is forty-two."))
    seen = talk.send(GOOD)
    assert (seen.status, seen.body) == (200, b"".join(place.wire.answer(GOOD, streamed, place.field)))
    assert len(talk.got) == 2
    assert talk.changes[-1] == NOTHING
    own = lab.talk(msgspec.structs.replace(place, model=f"{place.model}-x"), streamed)
    lab.behaves(Refuses(lambda asked: True, no))
    seen = own.send()
    assert (seen.status, seen.body) == (no.status, no.body)
    assert own.changes == [NOTHING]
