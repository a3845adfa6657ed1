"""The records that may answer one request: those of its scope, its issuer and its model's family."""

from collections.abc import Collection

import msgspec

from reasoning_fix.engine.caller import Caller
from reasoning_fix.engine.matching.verdicts import Content
from reasoning_fix.store import Record, Store
from reasoning_fix.store.sealing import SealError

_open = msgspec.msgpack.Decoder(Content).decode


class ScopedLookup:
    """The records of one scope that this provider issued: another one's are as good as not recorded.

    So are those of models of another `family` on a host that serves many: they are different companies'.
    """

    def __init__(self, store: Store, caller: Caller, model: str, family: str) -> None:
        self._store = store
        self._scope = caller.scope
        self._issuer = caller.issuer
        self._provider = caller.provider
        self._family = family
        self._families: dict[str, bool] = {model: True}
        self._opened: dict[bytes, Content | None] = {}

    def at(self, places: Collection[bytes]) -> list[Record]:
        return self._mine(self._store.at(self._scope.id, places))

    def related(
        self, *, contexts: Collection[bytes], turns: Collection[bytes], ids: Collection[bytes]
    ) -> list[Record]:
        return self._mine(self._store.related(self._scope.id, contexts=contexts, turns=turns, ids=ids))

    def open(self, record: Record) -> Content | None:
        """What is sealed in a record; None if it does not open."""
        if record.key not in self._opened:
            try:
                self._opened[record.key] = _open(self._scope.open(record.sealed, record.key))
            except (SealError, msgspec.MsgspecError):
                self._opened[record.key] = None
        return self._opened[record.key]

    def _mine(self, records: list[Record]) -> list[Record]:
        return [r for r in records if r.issuer == self._issuer and self._is_kin(r.model)]

    def _is_kin(self, model: str) -> bool:
        known = self._families.get(model)
        if known is None:
            known = self._families[model] = self._provider.family(model) == self._family
        return known
