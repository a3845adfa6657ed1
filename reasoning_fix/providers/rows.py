"""The shape of a provider table file: a struct for each kind of row; providers.toml describes the columns.

Values only: table.py answers what they mean, files.py checks whether they make sense.
"""

from typing import Literal, get_args

import msgspec

type Required = Literal["never", "tool_calls", "with_tools", "always"]
type ReasoningField = Literal["reasoning_content", "reasoning", "reasoning_details"]
type Writes = Literal["as_received", "first"]
type Dialect = Literal["chat_completions", "messages", "responses"]
type NullContent = Literal["allowed", "with_calls", "never"]
type Summary = Literal["as_received", "always", "never"]
type Thinks = Literal["yes", "no"]
type Means = Literal[
    "missing",
    "forbidden",
    "parameter",
    "tool_choice",
    "always_thinks",
    "too_long",
    "signature",
    "item_id",
    "sealed",
    "block",
]

# The fields of an assistant message that carry reasoning on the chat completions wire.
CHAT_REASONING_FIELDS: tuple[str, ...] = get_args(ReasoningField.__value__)


class OffSwitch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request with `value` at `path` (keys, outermost first) turns thinking off.

    `name` is what endpoints and rules call it, `clears` the parameters that contradict it. With `joins`, the
    other keys beside the value stay.
    """

    path: tuple[str, ...]
    value: str | bool
    name: str = ""
    clears: tuple[str, ...] = ()
    joins: bool = False
    source: str = ""


class Refusal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A text with which a provider refuses a request, and what it means.

    `text` is a regular expression, in any case. Its group `field` is the reasoning field that is not allowed,
    `member` the member of its items that is not, and `parameter` the parameter.
    """

    means: Means
    text: str
    source: str = ""


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the models whose name matches `models` want back; providers.toml describes the columns."""

    name: str = ""
    models: str = ""
    dialects: tuple[Dialect, ...] = ()
    required: Required = "never"
    placeholder: str | None = None
    known_empty: str | None = None
    refuses: tuple[str, ...] = ()
    thinks: Thinks = "yes"
    forbidden: bool = False
    off: str | None = None
    source: str = ""


class RuleRow(Rule, frozen=True, forbid_unknown_fields=True):
    """A provider's rule as a file has it: what it leaves out is what the `family` says, if it names one."""

    family: str = ""


class Endpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Paths (a regular expression for the whole path, without the query) that speak one dialect.

    `off` is the switch that turns thinking off there, unless a rule names another; `also_off` are other
    switches that work there. `split` is the parameter that asks for reasoning apart from the content. If
    `forbidden`, reasoning of any model is refused.
    """

    path: str = ".*/chat/completions"
    dialect: Dialect = "chat_completions"
    off: str = ""
    also_off: tuple[str, ...] = ()
    split: str = ""
    forbidden: bool = False
    source: str = ""


class ProviderRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A provider as a file has it; `bases` are the paths of its base URLs for SDKs, the usual one first.

    A `maker` serves its own models, which may see each other's reasoning; on other hosts a model sees only
    its own family's.
    """

    name: str
    hosts: tuple[str, ...]
    title: str = ""
    snapshot_hosts: tuple[str, ...] = ()
    endpoints: tuple[Endpoint, ...] = msgspec.field(
        name="endpoint",
        default=(
            # A server of your own: chat templates know these, https://github.com/vllm-project/vllm/issues/54744
            Endpoint(also_off=("template_enable_thinking", "template_thinking", "enable_thinking")),
            Endpoint(".*/v1/messages", "messages", also_off=("thinking",)),
            Endpoint(".*/responses", "responses", also_off=("effort",)),
        ),
    )
    bases: tuple[str, ...] = ()
    reads: tuple[ReasoningField, ...] = get_args(ReasoningField.__value__)
    writes: Writes = "as_received"
    details_without: tuple[str, ...] = ()
    null_content: NullContent = "allowed"
    summary: Summary = "as_received"
    rules: tuple[Rule, ...] = msgspec.field(default=(), name="rule")
    maker: bool = False
    source: str = ""


class PlaceholderWords(msgspec.Struct, frozen=True, eq=False, forbid_unknown_fields=True):
    """Words, in lower case, that other tools make their placeholders of; see placeholders.py."""

    thoughts: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    negations: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    earlier: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ()
    between: tuple[str, ...] = ()


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole file. `stand_in` is the placeholder made of words; {turn} in it differs from turn to turn."""

    placeholders: tuple[str, ...] = ()
    words: PlaceholderWords = PlaceholderWords()
    stand_in: str = ""
    off: tuple[OffSwitch, ...] = ()
    refusal: tuple[Refusal, ...] = ()
    family: tuple[Rule, ...] = ()
    provider: tuple[ProviderRow, ...] = ()
