"""What a flow says of itself: the notes in its metadata, which are saved with it.

Plain values only, so that any mitmproxy can read a saved flow. A flow file may come from anywhere: what does
not read as a note is ignored.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from mitmproxy import http

from reasoning_fix.engine.originals import Before
from reasoning_fix.engine.policy import Preferences
from reasoning_fix.engine.report import Report, Treated
from reasoning_fix.providers.lessons import Lesson
from reasoning_fix.providers.rows import Endpoint

KEY = "reasoning_fix"
# On the copy of a refused request by which it was sent again.
RESENT = "reasoning_fix_resent"

_OF_A_REPORT = ("model", "restored", "wanted", "filled", "grown", "thinking_off", "asked")

type _Member = tuple[str, bytes | None]


class Notes(msgspec.Struct):
    """What was done to a flow, by which preferences and lessons, and when its request came and was answered.

    Times are in milliseconds since the epoch, 0 if not known. `before_turns`, `before_settings` and
    `before_cuts` are what was changed, as it came; `turns` and `remarks` are a report's; `changed` are
    parameters. `refused` is what its refusal meant, and `tried` how many of the last lessons its repair
    tried. With `as_sent` the request is the client's own again. `only_demanded` stands in older notes.
    """

    dialect: str = ""
    model: str = ""
    restored: int = 0
    wanted: int = 0
    filled: int = 0
    evidence: dict[str, int] = {}
    grown: int = 0
    turns: list[tuple[int, str, str, int]] = []
    thinking_off: bool = False
    changed: list[str] = []
    asked: int = 0
    answered: int = 0
    only_demanded: bool = False
    refused: str = ""
    # In flow files it stands under the name that it had first.
    preferences: tuple[str, str, bool] | None = msgspec.field(default=None, name="wishes")
    lessons: list[tuple[str, str]] = []
    tried: int | None = None
    remarks: list[str] = []
    as_sent: bool = False
    before_turns: list[tuple[int, list[_Member]]] | None = None
    before_settings: list[_Member] | None = None
    before_cuts: list[int] = []

    @property
    def treated(self) -> list[Treated]:
        return [Treated(*turn) for turn in self.turns]

    @property
    def before(self) -> Before | None:
        """What the client sent where the request was changed; None if that is not known."""
        if self.as_sent or self.before_turns is None or self.before_settings is None:
            return None
        turns = {index: dict(was) for index, was in self.before_turns}
        return Before(turns, dict(self.before_settings), tuple(self.before_cuts))

    @property
    def altered(self) -> bool:
        """Whether the request went out otherwise than it came."""
        told = self.restored or self.filled or self.grown or self.before_turns or self.before_settings
        return bool(told) and not self.as_sent

    def taught(self, host: str, dialect: str, family: str) -> list[Lesson]:
        """The lessons that applied."""
        told = [*self.lessons, ("too_long", "")] if self.only_demanded else self.lessons
        return [Lesson(host, dialect, family, means, detail) for means, detail in told]  # type: ignore[arg-type]

    @property
    def known(self) -> int:
        """How many of the lessons were known before a refusal taught more."""
        if self.tried is not None:
            return len(self.lessons) - self.tried
        return len(self.lessons) - (bool(self.refused) and not self.only_demanded)


def written(
    report: Report,
    endpoint: Endpoint,
    preferences: Preferences,
    *,
    refused: str = "",
    tried: int = 0,
) -> dict[str, Any]:
    """The notes of a request, as metadata."""
    notes = Notes(
        **{name: getattr(report, name) for name in _OF_A_REPORT},
        dialect=endpoint.dialect,
        evidence=dict(report.evidence),
        turns=[(turn.index, turn.status, turn.evidence, turn.recorded) for turn in report.turns],
        changed=list(report.settings),
        refused=refused,
        tried=tried,
        remarks=list(report.remarks),
        preferences=(preferences.mode, preferences.disable, preferences.split),
        lessons=[(lesson.means, lesson.detail) for lesson in report.lessons],
    )
    if report.before is not None:
        notes.before_turns = [(i, list(was.items())) for i, was in report.before.turns.items()]
        notes.before_settings = list(report.before.settings.items())
        notes.before_cuts = list(report.before.cuts)
    return plain(notes)


def plain(notes: Notes) -> dict[str, Any]:
    """Notes as values that a flow file holds: lists for tuples, bytes as they are."""
    names = zip(Notes.__struct_fields__, Notes.__struct_encode_fields__, strict=True)
    return {written: _plain(getattr(notes, name)) for name, written in names}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def read(metadata: Mapping[str, Any]) -> Notes | None:
    """The notes in a flow's metadata; None if there are none, or none of ours."""
    try:
        return msgspec.convert(metadata.get(KEY), Notes, strict=False)
    except (msgspec.ValidationError, RecursionError):
        return None


def answered(flow: http.HTTPFlow, when: int) -> None:
    """Note when the answer was on record."""
    if when and isinstance(found := flow.metadata.get(KEY), dict):
        found["answered"] = when
