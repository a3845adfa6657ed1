"""What refusals and answers taught: facts about a host and a model or a family that the table does not have.

A lesson is kept once its repair is answered, and applies from the next request on. Lessons are in a small
file beside the store (without a path, in memory only), which every process reads again when it changes. They
hold no text of a conversation and no credential, and expire, since providers change their minds. Lessons that
only a newer version understands stay in the file.
"""

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec

from reasoning_fix.providers.rows import Means
from reasoning_fix.providers.table import LONGEST_MODEL_NAME
from reasoning_fix.store import private_files

logger = logging.getLogger(__name__)

KEEP_DAYS = 14
_DAY = 86400
# A lesson about one conversation is of no use for longer.
_CONVERSATION_DAYS = 1
_MOST = 1000
# In place of a placeholder: thinking was turned off for the request, since nothing else helped.
TURN_OFF = "off"

# Answers teach that thinking was on whatever a switch said, and that reasoning begins or ends with white
# space, which clients may trim. A repair that was refused teaches that it was tried.
type About = Means | Literal["ignores_switch", "padded", "tried"]
# These are about one model only, which may have the same name as a family.
_OF_ONE_MODEL = ("ignores_switch", "padded")
# Several of these may hold at the same time.
_SIDE_BY_SIDE = ("forbidden", "parameter", "ignores_switch", "tried")


class Lesson(msgspec.Struct, frozen=True):
    """What `host` wants on one wire of a model, or of a `family` of models that a rule of the table names.

    `detail` is the placeholder that it accepted, the field or parameter that it refuses, what helped against
    a forced tool, the switch that it ignores, or the repair that was tried and refused as well. What holds
    for one `conversation` only names it by a keyed fingerprint. `learned` is in seconds since the epoch.
    """

    host: str
    dialect: str
    family: str
    means: About
    detail: str = ""
    learned: int = 0
    conversation: str = ""

    @property
    def topic(self) -> tuple[str, ...]:
        """What a newer lesson replaces."""
        own = self.detail if self.means in _SIDE_BY_SIDE else ""
        return (self.host, self.dialect, self.family, self.conversation, self.means, own)

    def text(self) -> str:
        """One line for a person."""
        what = {
            "missing": f"reasoning is demanded on every turn; {self.detail!r} is accepted",
            "forbidden": f"{self.detail} is refused",
            "parameter": f"{self.detail} is refused while thinking",
            "tool_choice": "a forced tool is refused while thinking",
            "always_thinks": "thinking cannot be turned off",
            "too_long": "reasoning that is not demanded makes a request too long",
            "signature": "the signatures of its own reasoning are refused when they go back",
            "item_id": "the ids of its own reasoning are refused when they go back",
            "sealed": "sealed reasoning is refused when it goes back",
            "block": "its own reasoning is refused when it is put back",
            "ignores_switch": f"thinking stays on, whatever the switch {self.detail!r} says",
            "padded": "its reasoning begins or ends with white space, which clients may trim",
            "tried": f"the repair {self.detail!r} was refused as well",
        }[self.means]
        if self.means == "missing" and self.detail == TURN_OFF:
            what = "thinking is turned off, nothing else was accepted"
        where = " in one conversation" if self.conversation else ""
        return f"{self.host} {self.family} ({self.dialect}){where}: {what}"


class Lessons:
    """The lessons of one installation. Reading never raises: what cannot be read was not learned."""

    def __init__(self, path: Path | None, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._seen: tuple[int, int] | None = None
        # Replaced, never changed in place: large requests read it from other threads.
        self._known: dict[tuple[str, ...], Lesson] = {}
        self._foreign: list[msgspec.Raw] = []
        self._told = False

    def about(self, host: str, dialect: str, family: str, model: str = "") -> list[Lesson]:
        """What is known about a model at a host, by its own name and by its family's."""
        self._refresh()
        if not self._known:
            return []
        return [
            lesson
            for lesson in self._known.values()
            if lesson.host == host
            and lesson.dialect == dialect
            and (lesson.family == model or (lesson.family == family and lesson.means not in _OF_ONE_MODEL))
            and self._holds(lesson)
        ]

    def all(self) -> list[Lesson]:
        """Every lesson that has not expired, oldest first."""
        self._refresh()
        return sorted((x for x in self._known.values() if self._holds(x)), key=lambda x: x.learned)

    def learn(self, lesson: Lesson) -> None:
        """Keep a lesson; it replaces an older one on the same topic."""
        self._refresh()
        lesson = msgspec.structs.replace(lesson, learned=int(self._clock()))
        others = {topic: known for topic, known in self._known.items() if topic != lesson.topic}
        self._known = others | {lesson.topic: lesson}
        self._write()

    def note(self, host: str, dialect: str, model: str, means: About, detail: str = "") -> None:
        """Keep what an answer taught about a model. Costs little if it is known already."""
        if len(model) > LONGEST_MODEL_NAME:
            return
        known = self.about(host, dialect, model, model)
        if not any((lesson.means, lesson.detail) == (means, detail) for lesson in known):
            lesson = Lesson(host, dialect, model, means, detail)
            self.learn(lesson)
            logger.info("learned: %s", lesson.text())

    def forget(self, host: str = "") -> int:
        """Forget the lessons about a host ("": about all hosts); returns how many there were."""
        self._refresh()
        gone = [topic for topic, lesson in self._known.items() if host in ("", lesson.host)]
        self._known = {topic: lesson for topic, lesson in self._known.items() if topic not in gone}
        foreign = [] if host == "" else self._foreign
        if gone or foreign != self._foreign:
            self._foreign = foreign
            self._write()
        return len(gone)

    def _holds(self, lesson: Lesson) -> bool:
        """Whether it has not expired. One from the future never would: then a clock was wrong."""
        now = self._clock()
        days = _CONVERSATION_DAYS if lesson.conversation else KEEP_DAYS
        return now - days * _DAY <= lesson.learned <= now + _DAY

    def _refresh(self) -> None:
        if self._path is None:
            return
        try:
            state = os.stat(self._path)
        except OSError:
            if self._seen is not None:
                self._seen, self._known, self._foreign = None, {}, []
            return
        if (state.st_mtime_ns, state.st_ino) == self._seen:
            return
        self._seen = (state.st_mtime_ns, state.st_ino)
        found: list[Lesson] = []
        self._foreign = []
        try:
            for one in msgspec.json.decode(self._path.read_bytes(), type=list[msgspec.Raw]):
                try:
                    found.append(msgspec.json.decode(one, type=Lesson))
                except (msgspec.ValidationError, RecursionError):
                    self._foreign.append(one)
        except (OSError, msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            logger.warning("%s cannot be read (%s); what refusals taught is forgotten.", self._path, error)
        self._known = {lesson.topic: lesson for lesson in found[-_MOST:]}

    def _write(self) -> None:
        if self._path is None:
            return
        since = self._clock() - KEEP_DAYS * _DAY
        kept = [lesson for lesson in self._known.values() if lesson.learned >= since][-_MOST:]
        content = msgspec.json.format(msgspec.json.encode([*kept, *self._foreign[-_MOST:]]))
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            private_files.replace(self._path, content, syncs=False)
            state = os.stat(self._path)
            self._seen = (state.st_mtime_ns, state.st_ino)
        except OSError as error:
            if not self._told:
                self._told = True
                logger.warning(
                    "%s cannot be written (%s): until it can, lessons are kept in memory.", self._path, error
                )
