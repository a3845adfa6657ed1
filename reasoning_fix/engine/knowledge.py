"""What stays between requests."""

import msgspec

from reasoning_fix.engine.policy import Preferences
from reasoning_fix.engine.prefix_cache import PrefixCache
from reasoning_fix.providers.lessons import Lessons
from reasoning_fix.providers.table import Table
from reasoning_fix.store import Store


class Knowledge(msgspec.Struct, frozen=True):
    """What requests are restored by: all that stays between them.

    Without a `prefix_cache` every request is worked out from its beginning.
    """

    table: Table
    store: Store
    lessons: Lessons
    preferences: Preferences = Preferences()
    prefix_cache: PrefixCache | None = None
