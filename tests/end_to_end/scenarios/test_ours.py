"""A request that would have passed as the client sent it never fails because of what was put into it.

Where that is what a refusal speaks of, the request goes again once, without it, and the next one is right at
once. A refusal that the client's own body would have met passes as it is, after one request.
"""

from collections.abc import Callable

import msgspec
import pytest

from tests.laboratory import NOTHING, Lab, either_way
from tests.strict import (
    DONE,
    Answer,
    Asked,
    Demands,
    Place,
    Refuses,
    Rule,
    call,
    document,
    refusal,
    relayed,
    thought,
)
from tests.wires import Said

SIGNATURE = "//77//77EFufdYadR8gvuPJ246zsoo3ujq4+HLg9w8dlv34kVGbXTRdUGCYdcoeuP3dZH48rAjFyedbUeANhLX8w="
CLAUDES = "EqQB2o2SLyyjPTcYimuhyDxW3vx1YFGZ2/V7hYLvB0fkqzVhO2VW0T95vIJmm+R6oPmqt8nXzA2L3fYgxxl1"
SEALED = "gAAAAABBKL3cWjSxpmZ7uB9BZcY9r+2IY8D018kf+w5bifdbMko5XBfMPaKc5bPdCBqfzy0HI57+W0LME12HHwf2hOTA"
ITEM = "rs_65e378dc1f8f72f52727c1bab15ecac7"


def _details() -> tuple[dict[str, object], ...]:
    summary = {"type": "reasoning.summary", "summary": thought(), "format": "openai-responses-v1", "index": 0}
    sealed = {"type": "reasoning.encrypted", "data": SEALED, "id": ITEM, "format": "openai-responses-v1"}
    return (summary, {**sealed, "index": 0})


def _signed() -> Said:
    return call(seal=SIGNATURE)


def _claude() -> Said:
    return Said(thought=thought(), text="The answer is forty-two.", seal=CLAUDES)


def _gpt() -> Said:
    return call(thought=None, details=_details())


def _text() -> Said:
    return Said(thought=thought(), text="The answer is forty-two.")


def _seals(asked: Asked) -> bool:
    return any(turn.seals for turn in asked.turns)


def _thoughts(asked: Asked) -> bool:
    return any(turn.readable or turn.seals for turn in asked.turns)


def _item_ids(asked: Asked) -> bool:
    return b'"rs_' in asked.body


def _items(asked: Asked) -> bool:
    return b'"type": "reasoning"' in asked.body or b'"type":"reasoning"' in asked.body


class Case(msgspec.Struct, frozen=True):
    """`said` is what the provider said and now refuses where `when` holds; `kept`: what still goes back."""

    place: Place
    said: Callable[[], Said]
    when: Callable[[Asked], bool]
    no: Answer
    kept: bool = False

    def rules(self) -> list[Rule]:
        refuses = Refuses(self.when, self.no, self.place.model)
        return [refuses, Demands(self.place)] if self.kept else [refuses]


CASES = {
    # https://github.com/NousResearch/hermes-agent/issues/90886
    "Kimi's plan refuses its own signature": Case(
        Place("api.kimi.com", "/coding/v1/messages", "k3-256k"),
        _signed,
        _seals,
        refusal(
            "messages.1.content.0.signature: malformed encrypted reasoning content: "
            "invalid base64url encoding"
        ),
        kept=True,
    ),
    "Kimi refuses a signature with 422": Case(
        Place("api.moonshot.ai", "/anthropic/v1/messages", "kimi-k2.6"),
        _signed,
        _seals,
        refusal("messages.1.content.0: Invalid `signature` in `thinking` block", 422),
        kept=True,
    ),
    "a gateway's Kimi refuses a signature": Case(
        Place("opencode.ai", "/zen/go/v1/messages", "kimi-k2.5"),
        _signed,
        _seals,
        refusal(
            "Error from provider (Moonshot AI): messages.1.content.0.signature: invalid base64url encoding"
        ),
        kept=True,
    ),
    # https://github.com/anomalyco/opencode/issues/48637
    "Claude binds its block to what stood before it": Case(
        Place("opencode.ai", "/zen/v1/messages", "claude-opus-4-8"),
        _claude,
        _thoughts,
        refusal(
            "messages.1.content.0: Invalid `signature` in `thinking` block. The block is bound to a "
            "different conversation. Remove the block, or set "
            '`thinking.block_binding.prefix_mismatch_behavior` to "drop_block".'
        ),
    ),
    "Claude at another gateway": Case(
        Place("openrouter.ai", "/api/v1/messages", "anthropic/claude-opus-4.8"),
        _claude,
        _thoughts,
        relayed("messages.1.content.0: `thinking` blocks in this turn cannot be modified.", 400, "Anthropic"),
    ),
    "a host that takes no thinking blocks": Case(
        Place("api.z.ai", "/api/anthropic/v1/messages", "glm-5.2"),
        _text,
        _thoughts,
        refusal("messages.1.content.0.type: unsupported content block type `thinking`", 422),
    ),
    # https://github.com/langchain-ai/langchain/issues/37777
    "an item's id is not found": Case(
        Place("openrouter.ai", "/api/v1/chat/completions", "openai/gpt-5.6", "reasoning"),
        _gpt,
        _item_ids,
        relayed(
            f"Item with id '{ITEM}' not found. Items are not persisted when `store` is set to false. Try "
            "again with `store` set to true, or remove this item from your input.",
            404,
        ),
    ),
    "the same at OpenCode, as 400": Case(
        Place("opencode.ai", "/zen/v1/chat/completions", "gpt-5.6"),
        _gpt,
        _item_ids,
        refusal(f"Error from provider (OpenAI): Item with id '{ITEM}' not found."),
    ),
    "a sealed part cannot be opened": Case(
        Place("openrouter.ai", "/api/v1/chat/completions", "openai/gpt-5.6-mini", "reasoning"),
        _gpt,
        _seals,
        relayed(
            f"The encrypted content for item {ITEM} could not be verified. "
            "Reason: Encrypted content could not be decrypted or parsed."
        ),
    ),
    "an item's id is not found on the wire of items": Case(
        Place("openrouter.ai", "/api/v1/responses", "openai/gpt-5.6-codex"),
        lambda: call(seal=SEALED),
        _item_ids,
        relayed(
            "Item with id 'rs_call' not found. Items are not persisted when `store` is set to false.", 404
        ),
    ),
    "a sealed item cannot be opened": Case(
        Place("opencode.ai", "/zen/v1/responses", "gpt-5.6-codex"),
        lambda: call(seal=SEALED),
        _seals,
        refusal("The encrypted content gAAA...OTA could not be verified."),
    ),
    # https://github.com/lidge-jun/opencodex/pull/5173
    "Ark's plan takes no reasoning items": Case(
        Place("ark.cn-beijing.volces.com", "/api/plan/v3/responses", "deepseek-v4-pro"),
        call,
        _items,
        document(
            {
                "error": {
                    "code": "InvalidParameter",
                    "message": "The parameter `input` specified in the request are not valid: "
                    "invalid item type reasoning.",
                    "param": "input",
                    "type": "BadRequest",
                }
            }
        ),
    ),
    "another host takes no reasoning items": Case(
        Place("api.fireworks.ai", "/inference/v1/responses", "acme/nova-2"),
        call,
        _items,
        refusal("input[1]: item of type `reasoning` is not supported", 422),
    ),
    "a field is too large": Case(
        Place("api.z.ai", "/api/paas/v4/chat/completions", "glm-5.2"),
        _text,
        _thoughts,
        refusal("messages[1].reasoning_content: value is too large", 413),
    ),
    "a field is unknown": Case(
        Place("opencode.ai", "/zen/v1/chat/completions", "some-new-model"),
        call,
        _thoughts,
        refusal("Unknown parameter: 'messages[1].reasoning_content'."),
    ),
    "a field is not in the schema": Case(
        Place("openrouter.ai", "/api/v1/chat/completions", "acme/nova-2", "reasoning"),
        call,
        _thoughts,
        relayed("messages.1.reasoning: field not permitted by schema", 422, "Acme"),
    ),
}

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
# What is learned of a family with a name may hold for all of it.
NAMED = ("k3", "kimi", "glm", "deepseek")
of_no_family = [name for name, case in CASES.items() if not case.place.model.startswith(NAMED)]
# Fields that a host refuses are taken from its clients too, where the refusal names them in words known.
not_of_fields = [name for name in CASES if not name.startswith("a field")]


@either_way
@every_case
def test_what_we_put_in_and_is_refused_is_left_out(lab: Lab, case: Case, streamed: bool) -> None:
    lab.behaves(*case.rules())
    talk = lab.talk(case.place, streamed)
    said = case.said()
    talk.send(said)
    assert talk.send(case.said()).status == 200
    assert [case.when(asked) for asked in talk.got] == [True, False]
    if case.kept:
        assert talk.accepted.readable == [[said.thought]]
    elif case.when not in (_item_ids, _seals):
        assert talk.changes[-1] == NOTHING
    assert talk.send().status == 200
    assert len(talk.got) == 1
    other = lab.talk(case.place, streamed, talk.key)
    other.send(case.said())
    assert other.send().status == 200
    assert len(other.got) == 1


@pytest.mark.parametrize("name", of_no_family)
def test_other_models_of_the_host_get_back_all_that_they_said(lab: Lab, name: str) -> None:
    case = CASES[name]
    lab.behaves(*case.rules())
    talk = lab.talk(case.place, True)
    talk.send(case.said())
    assert talk.send().status == 200
    other = lab.talk(msgspec.structs.replace(case.place, model=f"{case.place.model}-next"), True, talk.key)
    said = case.said()
    other.send(said)
    assert other.send().status == 200
    assert len(other.got) == 1
    assert case.when(other.accepted)


@either_way
@every_case
def test_there_is_no_third_request(lab: Lab, case: Case, streamed: bool) -> None:
    """The provider refuses whatever comes after the first answer."""
    lab.behaves()
    talk = lab.talk(case.place, streamed)
    talk.send(case.said())
    lab.behaves(Refuses(lambda asked: True, case.no))
    for _ in range(3):
        seen = talk.send()
        assert (seen.status, seen.body) == (case.no.status, case.no.body)
        assert len(talk.got) <= 2


@pytest.mark.parametrize("name", not_of_fields)
def test_what_the_client_brings_itself_is_sent_once(lab: Lab, name: str) -> None:
    """The same refusal, where nothing is on record and the thought is the client's own."""
    case = CASES[name]
    lab.behaves(Refuses(lambda asked: True, case.no))
    talk = lab.talk(case.place, True)
    said = case.said()
    entries = case.place.wire.said(said, kept=True)
    if said.details:
        entries[0]["reasoning_details"] = list(said.details)
    talk.brings(said, *entries)
    seen = talk.send()
    assert (seen.status, seen.body) == (case.no.status, case.no.body)
    assert talk.changes == [NOTHING]


UNRELATED = {
    "a model that is not there": refusal("The model does not exist or you do not have access to it.", 404),
    "a parameter out of range": refusal("max_tokens: must be at most 8192"),
    "a tool that is wrong": refusal("tools.0.input_schema: JSON schema is invalid"),
    "a text that is too large": refusal("Request body is larger than 32 MB", 413),
    "an image that cannot be read": refusal("messages.0.content.0: could not process image", 422),
    "no money": refusal("Insufficient balance", 402),
}


@either_way
@pytest.mark.parametrize("no", UNRELATED.values(), ids=UNRELATED)
@pytest.mark.parametrize(
    "case",
    [
        CASES["Kimi's plan refuses its own signature"],
        CASES["an item's id is not found"],
        CASES["Ark's plan takes no reasoning items"],
    ],
    ids=["messages", "chat", "responses"],
)
def test_other_refusals_pass_after_one_request(lab: Lab, case: Case, no: Answer, streamed: bool) -> None:
    lab.behaves()
    talk = lab.talk(case.place, streamed)
    talk.send(case.said())
    lab.behaves(Refuses(lambda asked: True, no))
    seen = talk.send()
    assert (seen.status, seen.body) == (no.status, no.body)
    assert len(talk.got) == 1
    assert case.when(talk.accepted)


@either_way
@pytest.mark.parametrize(
    "place",
    [
        Place("api.kimi.com", "/coding/v1/messages", "k3-256k"),
        Place("opencode.ai", "/zen/v1/messages", "claude-opus-4-8"),
    ],
    ids=str,
)
def test_a_refusal_of_the_clients_own_block_beside_one_of_ours_passes(
    lab: Lab, place: Place, streamed: bool
) -> None:
    """Message 1 holds the client's own block, message 3 what was put back: the refusal names the first."""
    lab.behaves()
    talk = lab.talk(place, streamed)
    foreign = call(seal="foreign")
    talk.brings(foreign, *place.wire.said(foreign, kept=True))
    talk.send(_signed())
    no = refusal("messages.1.content.0: Invalid `signature` in `thinking` block")
    lab.behaves(Refuses(lambda asked: b'"foreign"' in asked.body, no))
    seen = talk.send()
    assert (seen.status, seen.body) == (no.status, no.body)
    assert len(talk.got) == 1


def test_what_was_learned_holds_after_a_restart(lab: Lab) -> None:
    talks = [(case, lab.talk(case.place, True)) for case in CASES.values()]
    lab.behaves(*(rule for case, _ in talks for rule in case.rules()))
    for case, talk in talks:
        talk.send(case.said())
        talk.send(DONE)
    lab.restart()
    for _, talk in talks:
        assert talk.send().status == 200
        assert len(talk.got) == 1
