"""What stays between requests."""

from collections.abc import Mapping

import msgspec

from reasoning_fix.engine.policy import Preferences
from reasoning_fix.engine.prefix_cache import PrefixCache
from reasoning_fix.engine.report import Report, Treated
from reasoning_fix.providers.lessons import Lessons
from reasoning_fix.providers.table import Table
from reasoning_fix.store import Store


class Known(msgspec.Struct, frozen=True, gc=False):
    """What is remembered of a settled turn: what became of it, and what its change took the place of."""

    treated: Treated
    was: Mapping[str, bytes | None] | None


type Cache = PrefixCache[Report, Known | None]


class Knowledge(msgspec.Struct, frozen=True):
    """What requests are restored by: all that stays between them.

    Without a `prefix_cache` every request is worked out from its beginning.
    """

    table: Table
    store: Store
    lessons: Lessons
    preferences: Preferences = Preferences()
    prefix_cache: Cache | None = None
