"""What each provider refuses, and why: the first fault of a request, by the rules of the family of its model.

Rules and texts are those of the links beside them; how a provider wraps a fault is in `envelopes.py`.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from tests.provider import chat, messages, responses
from tests.provider.envelopes import Fault, Refusal, enveloped
from tests.provider.ledger import Ledger
from tests.provider.providers import Family, Provider
from tests.provider.settings import Demand, Settings
from tests.provider.turns import Dialect, Event, Sent, dump

DIALECTS = {"chat": chat, "messages": messages, "responses": responses}

# https://github.com/lm15-dev/lm15-contract errors/cases/deepseek.json,
# esengine/DeepSeek-Reasonix/issues/8902, HKUDS/DeepTutor/pull/1048
DEEPSEEK_MISSING = "The `reasoning_content` in the thinking mode must be passed back to the API."
DEEPSEEK_MESSAGES_MISSING = "The `content[].thinking` in the thinking mode must be passed back to the API."
DEEPSEEK_RESPONSES_MISSING = "The `reasoning_text` in the thinking mode must be passed back to the API."
# https://github.com/Sylinko/Everywhere/issues/287
DEEPSEEK_OLD_MISSING = (
    "Missing `reasoning_content` field in the assistant message at message index {}. For more information, "
    "please refer to https://api-docs.deepseek.com/guides/thinking_mode#tool-calls"
)
# https://github.com/deepseek-ai/deepseek-harness, serialize.ts
DEEPSEEK_EMPTY_TURN = "Invalid assistant message: content or tool_calls must be set"
# https://github.com/deepseek-ai/DeepSeek-V3/issues/1376
DEEPSEEK_TOOL_CHOICE = "Thinking mode does not support this tool_choice"
# https://github.com/labring/FastGPT/issues/6357
KIMI_MISSING = (
    "thinking is enabled but reasoning_content is missing in assistant tool call message at index {}"
)
# https://github.com/BigPizzaV3/CodexPlusPlus/issues/1180 and MoonshotAI/kimi-cli, kimi.py
KIMI_ALWAYS_THINKS = "invalid thinking: only type=enabled is allowed for this model"
KIMI_EMPTY_TEXT = "text content is empty"
KIMI_TEMPERATURE = "invalid temperature: only 1 is allowed for this model"
KIMI_TOP_P = "invalid top_p: only 0.95 is allowed for this model"
KIMI_REQUIRED = "tool_choice 'required' is incompatible with thinking enabled"
KIMI_SPECIFIED = "tool_choice 'specified' is incompatible with thinking enabled"
KIMI_BOTH = "cannot specify both 'thinking' and 'reasoning_effort'"
# https://github.com/NousResearch/hermes-agent/issues/85890
GLM_ALWAYS_THINKS = (
    "This model always engages in thinking and cannot be disabled; please use low, high, or max"
)
GLM_ALWAYS_THINKS_CN = "该模型始终思考，不支持关闭思考；请使用 low、high 或 max。"
# https://github.com/zai-org/feedback/issues/780
GLM_BUDGET = "invalid request: budget_tokens is required and must be positive when thinking type is enabled"
# https://github.com/Tencent/WeKnora/issues/1302, XiaomiMiMo/MiMo/issues/44
MIMO_MISSING = "The reasoning_content in the thinking mode must be passed back to the API."
MIMO_NULL_CONTENT = "`text` is not set"
# https://github.com/esengine/DeepSeek-Reasonix/issues/9337
NO_SUMMARY = "Invalid 'summary': summary is required and must be a list for reasoning."
# The shape of Ark's refusals: https://github.com/agentscope-ai/QwenPaw/issues/7549
ARK_ITEM = "The parameter `input` specified in the request are not valid: invalid item type reasoning."
# MiniMax's OpenAPI text and logs of clients
MINIMAX_PAIRING = "invalid params, tool call result does not follow tool call (2013)"
# https://github.com/BerriAI/litellm/issues/10431, MoonshotAI/kimi-cli/issues/2011,
# MiniMax-AI/MiniMax-M2/issues/119, NousResearch/hermes-agent/pull/1877; MiMo's own is UNCONFIRMED
TOO_LONG = (
    "This model's maximum context length is {0} tokens. However, you requested {1} tokens "
    "({1} in the messages, 0 in the completion). Please reduce the length of the messages or completion."
)
TOO_LONG_OF: dict[Family, str] = {
    "kimi": "Invalid request: Your request exceeded model token limit: {} (requested: {})",
    "glm": "Prompt exceeds max length",
    "minimax": "invalid params, context window exceeds limit (2013)",
}
# https://github.com/openai/openai-python, the API's own wording of an id it does not keep
NO_SUCH_RESPONSE = "Previous response with id '{}' not found."
FOREIGN_SIGNATURE = "messages.{}.content: Invalid `signature` in `thinking` block"


class Rule(msgspec.Struct, frozen=True):
    """Which turns must carry reasoning; `refuses` do not count, `unless_none` spares turns without."""

    demand: Demand = "nothing"
    only_with_tools: bool = False
    refuses: tuple[str, ...] = ()
    unless_none: bool = False


class Asked(msgspec.Struct, frozen=True):
    """One request as the rules see it."""

    provider: Provider
    host: str
    path: str
    headers: dict[str, str]
    dialect: Dialect
    body: Event
    turns: list[Sent]
    conversation: str
    ledger: Ledger
    settings: Settings

    @property
    def model(self) -> str:
        return str(self.body.get("model") or "")

    @property
    def family(self) -> Family:
        return self.provider.family_of(self.model)

    @property
    def thinking(self) -> bool:
        """Whether thinking is on: no switch of this provider turns it off."""
        if self.family in self.provider.deaf:
            return True
        return not any(_at(self.body, path) == value for path, value in self.provider.off)


def refusal(
    provider: Provider, body: Event, dialect: Dialect = "chat", settings: Settings | None = None
) -> Refusal | None:
    """What this provider says to such a request from nobody it knows; None: it would answer."""
    turns = DIALECTS[dialect].turns(provider, body)
    headers = {"x-opencode-session": "s"}
    path = provider.chat_path
    asked = Asked(
        provider, provider.host, path, headers, dialect, body, turns, "", Ledger(), settings or Settings()
    )
    return refused(asked)


def refused(asked: Asked) -> Refusal | None:
    fault = next(_faults(asked), None)
    if fault is None:
        return None
    return enveloped(asked.provider, asked.family, asked.dialect, fault, asked.settings)


def _faults(asked: Asked) -> Iterator[Fault]:
    yield from _session(asked)
    yield from _forbidden(asked)
    yield from _items(asked)
    yield from _SHAPE.get(asked.family, _nothing)(asked)
    if asked.dialect == "chat":
        yield from _PARAMETERS.get(asked.family, _nothing)(asked)
    yield from _thinking_switch(asked)
    yield from _signatures(asked)
    if asked.thinking:
        yield from _missing(asked)
    limit, length = asked.settings.max_characters, len(dump(asked.body).decode())
    if limit is not None and length > limit:
        text = TOO_LONG_OF.get(asked.family, TOO_LONG)
        yield Fault("too long", text.format(limit, length), code="1261")


def _nothing(asked: Asked) -> Iterator[Fault]:
    yield from ()


def _at(body: Event, path: tuple[str, ...]) -> Any:
    value: Any = body
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


# --- reasoning ----------------------------------------------------------------------------------------------

_DEEPSEEK = Rule("every", only_with_tools=True, unless_none=True)
RULES: dict[tuple[Family, Dialect], Rule] = {
    # A request with tools carries every turn's reasoning: https://api-docs.deepseek.com/guides/thinking_mode
    ("deepseek", "chat"): _DEEPSEEK,
    ("deepseek", "messages"): msgspec.structs.replace(_DEEPSEEK, refuses=("",)),
    # `reasoning_text: ""` is refused: https://github.com/can1357/oh-my-pi/issues/10690
    ("deepseek", "responses"): msgspec.structs.replace(_DEEPSEEK, refuses=("",)),
    # https://mimo.mi.com/docs/en-US/usage-guide/passing-back-reasoning_content
    ("mimo", "chat"): Rule("calls"),
    ("mimo", "messages"): Rule("calls"),
    # GLM and MiniMax never refuse what is missing: https://docs.z.ai/guides/capabilities/thinking-mode
}
# Kimi by model, https://platform.kimi.ai/docs/guide/use-kimi-k2-thinking-model: K2.7: every turn, K3: none.
_KIMI = ((r"k2[.p]7", Rule("every")), (r"k3|moonshot-v1", Rule()), (r"", Rule("calls")))


def rule_of(asked: Asked) -> Rule:
    if asked.family == "kimi" and asked.dialect != "responses":
        rule = next(rule for name, rule in _KIMI if re.search(name, asked.model, re.I))
    else:
        rule = RULES.get((asked.family, asked.dialect), Rule())
    if (demand := asked.settings.demand) is not None:
        rule = msgspec.structs.replace(rule, demand=demand, only_with_tools=False)
    return msgspec.structs.replace(rule, refuses=(*rule.refuses, *asked.settings.refuses))


def _missing(asked: Asked) -> Iterator[Fault]:
    rule = rule_of(asked)
    if rule.demand == "nothing" or (rule.only_with_tools and not asked.body.get("tools")):
        return
    for sent in asked.turns:
        wanted = rule.demand == "every" or sent.calls
        if not wanted or sent.message.get("prefix") or not (_lacks(sent, rule) or _scattered(asked, sent)):
            continue
        known = rule.unless_none and asked.ledger.had_none(asked.host, asked.conversation, sent)
        if not known:
            yield Fault("missing", _missing_text(asked).format(sent.index), sent.index)


def _lacks(sent: Sent, rule: Rule) -> bool:
    unreadable = any(piece.kind == "redacted_thinking" for piece in sent.pieces)
    return sent.reasoning is None or (sent.reasoning in rule.refuses and not unreadable)


def _scattered(asked: Asked, sent: Sent) -> bool:
    """Calls of one turn that come after an output of it: refused with the same text on the Responses API."""
    if asked.dialect != "responses":
        return False
    issued = [
        call.id for turn in asked.ledger.find(asked.host, asked.conversation, sent) for call in turn.calls
    ]
    others = {call for turn in asked.turns if turn is not sent for call in turn.calls}
    return bool(sent.calls) and not others.isdisjoint(set(issued) - set(sent.calls))


def _missing_text(asked: Asked) -> str:
    if asked.family == "kimi":
        return KIMI_MISSING
    if asked.family == "mimo":
        return MIMO_MISSING
    if asked.dialect == "messages":
        return DEEPSEEK_MESSAGES_MISSING
    if asked.dialect == "responses":
        return DEEPSEEK_RESPONSES_MISSING
    return DEEPSEEK_OLD_MISSING if asked.settings.old_text else DEEPSEEK_MISSING


def _signatures(asked: Asked) -> Iterator[Fault]:
    if not asked.settings.strict_signatures:
        return
    for sent in asked.turns:
        for piece in sent.pieces:
            if piece.seal and not asked.ledger.issued_seal(asked.host, piece):
                yield Fault("signature", FOREIGN_SIGNATURE.format(sent.index), sent.index)


def _forbidden(asked: Asked) -> Iterator[Fault]:
    for field in (*asked.provider.forbids, *asked.settings.forbids):
        for sent in asked.turns:
            if field in sent.message:
                yield Fault("forbidden", "", sent.index, field, sent.message[field])


def _items(asked: Asked) -> Iterator[Fault]:
    """Reasoning items, where they are refused or must have a summary."""
    for sent in asked.turns if asked.dialect == "responses" else ():
        if not sent.pieces:
            continue
        if "items" in asked.provider.forbids:
            yield Fault("items", ARK_ITEM, sent.index)
        if asked.provider.summary == "always" and not isinstance(sent.message.get("summary"), list):
            yield Fault("items", NO_SUMMARY, sent.index)


# --- parameters ---------------------------------------------------------------------------------------------


def _session(asked: Asked) -> Iterator[Fault]:
    """https://github.com/anomalyco/opencode: since 2026-09; Codex's `session-id` counts too."""
    known = {"x-opencode-session", "session-id"} & asked.headers.keys()
    if asked.provider.envelope == "opencode" and not known:
        yield Fault("session", "Request is missing x-opencode-session")


def _thinking_switch(asked: Asked) -> Iterator[Fault]:
    """Models that cannot stop thinking, and Z.ai's budget; GLM's coding plan ignores the switch."""
    thinking = asked.body.get("thinking") or {}
    disabled = thinking.get("type") == "disabled"
    model, coding = asked.model.lower(), asked.path.startswith("/api/coding/")
    if asked.family == "kimi" and disabled and re.search(r"k2[.p]7|k3\.1", model):
        yield Fault("switch", KIMI_ALWAYS_THINKS)
    if asked.family == "glm" and asked.dialect == "chat":
        if disabled and re.search(r"glm-5[.p-]3", model) and not coding:
            chinese = asked.host.endswith(".cn")
            yield Fault("switch", GLM_ALWAYS_THINKS_CN if chinese else GLM_ALWAYS_THINKS, code="1210")
    elif asked.family == "glm" and thinking.get("type") == "enabled" and not thinking.get("budget_tokens"):
        yield Fault("switch", GLM_BUDGET, code="1210")


def _kimi_parameters(asked: Asked) -> Iterator[Fault]:
    """https://github.com/MoonshotAI/kimi-cli and NousResearch/hermes-agent; K3 takes both switches."""
    body, newest = asked.body, bool(re.search(r"k3", asked.model, re.I))
    if "thinking" in body and "reasoning_effort" in body and not newest:
        yield Fault("parameter", KIMI_BOTH)
    if not asked.thinking or "moonshot-v1" in asked.model:
        return
    if body.get("temperature") not in (None, 1):
        yield Fault("parameter", KIMI_TEMPERATURE)
    if body.get("top_p") not in (None, 0.95):
        yield Fault("parameter", KIMI_TOP_P)
    if body.get("tool_choice") == "required" and not newest:
        yield Fault("parameter", KIMI_REQUIRED)
    if isinstance(body.get("tool_choice"), dict):
        yield Fault("parameter", KIMI_SPECIFIED)


def _deepseek_parameters(asked: Asked) -> Iterator[Fault]:
    choice = asked.body.get("tool_choice")
    if asked.thinking and (choice == "required" or isinstance(choice, dict)):
        yield Fault("parameter", DEEPSEEK_TOOL_CHOICE)


type _Check = Callable[[Asked], Iterator[Fault]]
_PARAMETERS: dict[Family, _Check] = {"kimi": _kimi_parameters, "deepseek": _deepseek_parameters}

# --- the shape of a history ---------------------------------------------------------------------------------


def _deepseek_shape(asked: Asked) -> Iterator[Fault]:
    for sent in asked.turns if asked.dialect == "chat" else ():
        if not sent.message.get("tool_calls") and sent.message.get("content") in (None, []):
            yield Fault("shape", DEEPSEEK_EMPTY_TURN)


def _kimi_shape(asked: Asked) -> Iterator[Fault]:
    for sent in asked.turns if asked.dialect == "chat" else ():
        content = sent.message.get("content")
        if sent.calls and isinstance(content, list) and any(part.get("text") == "" for part in content):
            yield Fault("shape", KIMI_EMPTY_TEXT)


def _mimo_shape(asked: Asked) -> Iterator[Fault]:
    for sent in asked.turns if asked.dialect == "chat" else ():
        if sent.calls and sent.message.get("content") is None:
            yield Fault("shape", MIMO_NULL_CONTENT)


def _minimax_shape(asked: Asked) -> Iterator[Fault]:
    """A tool result follows its call, in either dialect."""
    open_ids: set[str] = set()
    calls = {sent.index: set(sent.calls) for sent in asked.turns}
    for index, message in enumerate(asked.body.get("messages") or ()):
        open_ids = calls.get(index, open_ids)
        content = message.get("content")
        parts = content if isinstance(content, list) else []
        results = [part.get("tool_use_id") for part in parts if part.get("type") == "tool_result"]
        results += [message.get("tool_call_id")] if message.get("role") == "tool" else []
        if not open_ids.issuperset(results):
            yield Fault("shape", MINIMAX_PAIRING)


_SHAPE: dict[Family, _Check] = {
    "deepseek": _deepseek_shape,
    "kimi": _kimi_shape,
    "mimo": _mimo_shape,
    "minimax": _minimax_shape,
}
