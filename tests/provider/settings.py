"""How one host differs from its rule in one test: stricter, looser, or in another voice."""

from typing import Literal

import msgspec

type Demand = Literal["nothing", "calls", "every"]


class Settings(msgspec.Struct):
    """Everything left alone is the provider's own rule.

    `demand`: which turns must carry reasoning while thinking is on, whatever the rule says.
    `refuses`: reasoning of exactly these texts is refused like a missing one.
    `forbids`: fields of an assistant message that are refused, besides the provider's own.
    `writes`: the one field for thoughts in chat answers and requests, where hosts and models differ.
    `max_characters`: a longer request body is refused as too long.
    `strict_signatures`: a signature this host did not issue is refused.
    `old_text`: DeepSeek's text of 2025, with the index. `opaque`: OpenCode hides the upstream's text.
    `relay`: a relay stands before the host, appends its trace id and loses the type.
    `cumulative`: MiniMax repeats everything said so far. `think_tag`: the tag around its thoughts.
    `clock`: each event of a stream comes with a comment that says when it was sent (`: sent 12345`, monotonic
    nanoseconds).
    """

    demand: Demand | None = None
    refuses: tuple[str, ...] = ()
    forbids: tuple[str, ...] = ()
    writes: str = ""
    max_characters: int | None = None
    strict_signatures: bool = False
    old_text: bool = False
    opaque: bool = False
    relay: bool = False
    cumulative: bool = False
    think_tag: str = "think"
    clock: bool = False
