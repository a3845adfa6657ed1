"""The commands of mitmproxy that a person can give: what was learned, counted and restored."""

import logging
from collections.abc import Callable, Sequence

from mitmproxy import command, flow
from mitmproxy.log import ALERT

from reasoning_fix.proxy.explain import explain
from reasoning_fix.proxy.resources import Resources
from reasoning_fix.proxy.stats import tables

logger = logging.getLogger(__name__)


class Commands:
    """They work on what the proxy holds open when they are given."""

    name = "reasoning_fix_commands"

    def __init__(self, resources: Callable[[], Resources]) -> None:
        self._resources = resources

    @command.command("reasoning_fix.learned")  # type: ignore[untyped-decorator]
    def learned(self) -> Sequence[str]:
        """What refusals taught about hosts and models, oldest first."""
        return [lesson.text() for lesson in self._resources().engine.knowledge.lessons.all()]

    @command.command("reasoning_fix.stats")  # type: ignore[untyped-decorator]
    def stats(self, days: int = 7) -> Sequence[str]:
        """What happened in the last days: requests, turns, refusals, cache hits, clients."""
        return tables.report(self._resources().book.counts(max(1, days)))

    @command.command("reasoning_fix.forget")  # type: ignore[untyped-decorator]
    def forget(self, host: str = "") -> None:
        """Forget what refusals taught about a host, or about all of them."""
        count = self._resources().engine.knowledge.lessons.forget(host)
        logger.log(ALERT, "Forgot %d lesson%s.", count, "" if count == 1 else "s")

    @command.command("reasoning_fix.explain")  # type: ignore[untyped-decorator]
    def explain(self, flows: Sequence[flow.Flow], texts: bool = True) -> Sequence[str]:
        """Why each turn of these requests was or was not restored; texts: with the first line of each."""
        engine = self._resources().engine
        return [line for one in flows for line in explain(one, engine, texts)]
