"""How each provider and gateway words and wraps a fault. Every shape is one of the samples' error bodies."""

from collections.abc import Callable
from typing import Any

import msgspec

from tests.provider.providers import Family, Provider
from tests.provider.settings import Settings
from tests.provider.turns import Dialect, Event, dump

JSON = "application/json"
# The 400s of DeepSeek call themselves this: https://github.com/SaladDay/cc-switch-cli/issues/170
BYTES = "application/octet-stream"
_INVALID = "invalid_request_error"

# What stands for the upstream in a gateway's text.
_NAMES: dict[Family, str] = {
    "deepseek": "DeepSeek",
    "kimi": "Moonshot AI",
    "glm": "Z.AI",
    "mimo": "Xiaomi",
    "minimax": "MiniMax",
}
# Refusals of a field, by envelope: the links are in the rows of hosts of the README's table.
_FORBIDDEN = {
    "groq": "'messages.{0}' : for 'role:assistant' the following must be satisfied"
    "[('messages.{0}' : property '{1}' is unsupported)]",
    "cerebras": "messages.{0}.assistant.{1}: property 'messages.{0}.assistant.{1}' is unsupported",
    "fireworks": "Extra inputs are not permitted, field: 'messages[{0}].{1}', value: {2!r}",
    "databricks": "messages.{0}.{1}: Extra inputs are not permitted",
    "mistral": "Extra inputs are not permitted",
}
_UNRECOGNIZED = "Unrecognized request argument supplied: {1}"


class Fault(msgspec.Struct, frozen=True):
    """What is wrong: a kind, the provider's text, and the place it is at."""

    kind: str
    text: str
    index: int = 0
    field: str = ""
    value: Any = None
    code: str = ""


class Refusal(msgspec.Struct, frozen=True):
    status: int
    content_type: str
    body: bytes


def enveloped(
    provider: Provider, family: Family, dialect: Dialect, fault: Fault, settings: Settings
) -> Refusal:
    if fault.kind == "forbidden":
        text = _FORBIDDEN.get(provider.envelope, _UNRECOGNIZED)
        fault = msgspec.structs.replace(fault, text=text.format(fault.index, fault.field, fault.value))
    if settings.relay:
        error = {"message": f"{fault.text} [trace_id=7f3c]", "type": "<nil>"}
        return Refusal(400, JSON, dump({"error": error, "type": "error"}))
    if settings.opaque and fault.kind != "session":
        fault = msgspec.structs.replace(fault, kind="opaque", text="Upstream request failed")
    return _ENVELOPES[provider.envelope](family, dialect, fault)


def _openai(_: Family, __: Dialect, fault: Fault) -> Refusal:
    error = {"message": fault.text, "type": _INVALID, "param": None, "code": _INVALID}
    return Refusal(400, JSON, dump({"error": error}))


def _deepseek(family: Family, dialect: Dialect, fault: Fault) -> Refusal:
    """The same for every dialect."""
    return Refusal(400, BYTES, _openai(family, dialect, fault).body)


def _kimi(_: Family, dialect: Dialect, fault: Fault) -> Refusal:
    if dialect == "messages":
        error = {"type": _INVALID, "message": fault.text}
        return Refusal(400, JSON, dump({"error": error, "type": "error"}))
    return Refusal(400, JSON, dump({"error": {"message": fault.text, "type": _INVALID}}))


def _glm(_: Family, __: Dialect, fault: Fault) -> Refusal:
    return Refusal(400, JSON, dump({"error": {"code": fault.code or "1214", "message": fault.text}}))


def _mimo(_: Family, __: Dialect, fault: Fault) -> Refusal:
    """The meaning is in `param`, and the body begins with `data:`."""
    error = {"code": "400", "message": "Param Incorrect", "param": fault.text, "type": ""}
    return Refusal(400, JSON, b"data:" + dump({"error": error}))


def _minimax(_: Family, __: Dialect, fault: Fault) -> Refusal:
    error = {"type": "bad_request_error", "message": fault.text, "http_code": "400"}
    return Refusal(400, JSON, dump({"type": "error", "error": error}))


def _upstream(family: Family, dialect: Dialect, fault: Fault) -> str:
    """The maker's own body, as a string inside a gateway's."""
    own = {"deepseek": _deepseek, "kimi": _kimi, "glm": _glm, "mimo": _mimo, "minimax": _minimax}
    body = own.get(family, _openai)(family, "chat" if family == "kimi" else dialect, fault).body
    return body.removeprefix(b"data:").decode()


def _nested(family: Family, dialect: Dialect, fault: Fault, message: str) -> Event:
    metadata = {"raw": _upstream(family, dialect, fault), "provider_name": _NAMES.get(family, "Upstream")}
    return {"error": {"message": message, "code": 400, "metadata": metadata}}


def _openrouter(family: Family, dialect: Dialect, fault: Fault) -> Refusal:
    body = _nested(family, dialect, fault, "Provider returned error") | {"user_id": "user_x"}
    return Refusal(400, JSON, dump(body))


def _opencode(family: Family, dialect: Dialect, fault: Fault) -> Refusal:
    """Bare for most, Kimi's behind another gateway, and sometimes without a cause.

    https://github.com/warpdotdev/warp/issues/11587 and OnesoftQwQ/opencode-go-copilot/issues/1
    """
    kinds = {"session": "MissingSessionID", "opaque": "server_error"}
    if fault.kind in kinds:
        message = f"Error from provider (Console Go): {fault.text}"
        return Refusal(400, JSON, dump({"error": {"type": kinds[fault.kind], "message": message}}))
    if fault.kind == "missing" and family == "kimi":
        wrapped = _nested(family, dialect, fault, "Error from provider: Provider returned error")
        return Refusal(400, JSON, dump(wrapped))
    message = f"Error from provider ({_NAMES.get(family, 'Console')}): {fault.text}"
    return Refusal(400, JSON, dump({"message": message, "type": _INVALID, "param": None, "code": _INVALID}))


def _ark(_: Family, __: Dialect, fault: Fault) -> Refusal:
    error = {"code": "InvalidParameter", "message": fault.text, "param": "input", "type": "BadRequest"}
    return Refusal(400, JSON, dump({"error": error}))


def _siliconflow(_: Family, __: Dialect, fault: Fault) -> Refusal:
    return Refusal(400, JSON, dump({"code": 20015, "message": fault.text, "data": None}))


def _groq(_: Family, __: Dialect, fault: Fault) -> Refusal:
    return Refusal(400, JSON, dump({"error": {"message": fault.text, "type": _INVALID}}))


def _cerebras(_: Family, __: Dialect, fault: Fault) -> Refusal:
    error = {"message": fault.text, "type": _INVALID, "param": "validation_error", "code": "wrong_api_format"}
    return Refusal(400, JSON, dump(error))


def _mistral(_: Family, __: Dialect, fault: Fault) -> Refusal:
    if fault.kind != "forbidden":
        error = {"object": "error", "message": fault.text, "type": _INVALID, "param": None, "code": None}
        return Refusal(400, JSON, dump(error))
    detail = {"type": "extra_forbidden", "loc": ["body", "messages", fault.index, "assistant", fault.field]}
    return Refusal(422, JSON, dump({"detail": [detail | {"msg": fault.text, "input": fault.value}]}))


def _databricks(_: Family, __: Dialect, fault: Fault) -> Refusal:
    return Refusal(400, JSON, dump({"error_code": "BAD_REQUEST", "message": fault.text}))


_ENVELOPES: dict[str, Callable[[Family, Dialect, Fault], Refusal]] = {
    "openai": _openai,
    "fireworks": _openai,
    "deepseek": _deepseek,
    "kimi": _kimi,
    "glm": _glm,
    "mimo": _mimo,
    "minimax": _minimax,
    "openrouter": _openrouter,
    "opencode": _opencode,
    "siliconflow": _siliconflow,
    "ark": _ark,
    "groq": _groq,
    "cerebras": _cerebras,
    "mistral": _mistral,
    "databricks": _databricks,
}
