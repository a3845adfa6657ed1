"""What to put where nobody recorded a turn's reasoning: by the provider's rule, or nothing.

The rules are rows of providers.toml with their sources. This file only applies them.
"""

import msgspec

from reasoning_fix.providers import Rule

AUTO = "auto"
NOTHING = "none"
MODES = (AUTO, NOTHING)


def demands(rule: Rule, has_calls: bool, has_tools: bool) -> bool:
    """Whether the provider refuses this turn without reasoning; `has_tools`: the request carries tools."""
    match rule.required:
        case "tool_calls":
            return has_calls
        case "with_tools":
            return has_tools
        case "always":
            return True
        case _:
            return False


def stand_in(rule: Rule, sent: bytes | None) -> bytes | None:
    """The JSON value for a demanded field that nobody recorded; None: leave what the client sent.

    `sent` is the client's own value, None where the field is missing.
    """
    if rule.placeholder is None or not is_refused(rule, sent):
        return None
    return msgspec.json.encode(rule.placeholder)


def known_empty(rule: Rule, sent: bytes | None) -> bytes | None:
    """The JSON value for a demanded field of a turn that is on record as having had no reasoning."""
    if rule.known_empty is None or sent not in (None, b"null"):
        return None
    return msgspec.json.encode(rule.known_empty)


def is_refused(rule: Rule, sent: bytes | None) -> bool:
    if sent is None or sent == b"null":
        return True
    try:
        return msgspec.json.decode(sent, type=str) in rule.refuses
    except msgspec.MsgspecError:
        return False
