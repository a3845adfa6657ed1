"""Conversations that public reports tell of, replayed: each folder of samples/cases is one.

`what.txt` says what it is, where it is told and where it goes. The provider answers as it did then: with its
refusal as long as what it refuses holds of the request, else with its answer.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from tests import SAMPLES
from tests.laboratory import NOTHING, Lab, difference
from tests.strict import Answer, Asked, Place

FOLDER = SAMPLES / "cases"


def _lacks(asked: Asked) -> bool:
    return any(not texts for texts in asked.readable)


def _lacks_words(asked: Asked) -> bool:
    return any(not any(text.strip() for text in texts) for texts in asked.readable)


def _brings_thoughts(asked: Asked) -> bool:
    return any(turn.readable or turn.seals for turn in asked.turns)


def _brings_details(asked: Asked) -> bool:
    return any("reasoning_details" in turn.entry for turn in asked.turns)


def _brings_an_index(asked: Asked) -> bool:
    return any("index" in one for turn in asked.turns for one in turn.entry.get("reasoning_details") or ())


class Case(msgspec.Struct, frozen=True):
    """`refused`: what the refusal names. `kept`: the thoughts on record go back.

    `own` are thoughts of the client that never were on record here. `sealed`: what was said under seal
    goes back too, without the number that its part has in a stream only. `untouched`: the last exchange is
    of another model, whose request passes as it is.
    """

    refused: Callable[[Asked], bool] | None = None
    kept: bool = True
    own: tuple[str, ...] = ()
    sealed: bool = False
    untouched: bool = False


NO_THOUGHT = Case(_lacks, kept=False)
RESTORED = Case()
CASES = {
    "02": Case(_lacks),
    "110": Case(_brings_thoughts, kept=False),
    "114": Case(_lacks_words, kept=False),
    "116": Case(_lacks),
    "120": NO_THOUGHT,
    "124": NO_THOUGHT,
    "128": Case(own=("Thought 5b2aaabc9af5: größer ≥ 3, so look at the file first.\nThen decide.",)),
    "13": Case(lambda asked: b'"rs_' in asked.body, kept=False),
    "132": Case(_brings_thoughts, kept=False),
    "137": Case(_brings_thoughts, kept=False),
    "154": RESTORED,
    "178": RESTORED,
    "18": Case(lambda asked: any(turn.seals for turn in asked.turns)),
    "208": Case(_lacks),
    "21": Case(_lacks),
    "212": Case(_lacks),
    "217": RESTORED,
    "219": RESTORED,
    "226": Case(lambda asked: b'"type": "reasoning"' in asked.body, kept=False),
    "26": Case(_lacks),
    "30": RESTORED,
    "36": RESTORED,
    "41": Case(sealed=True),
    "42": Case(sealed=True),
    "43": Case(_brings_an_index),
    "48": Case(_lacks),
    "61": Case(_lacks_words, kept=False),
    "64": Case(_lacks_words, kept=False),
    "70": NO_THOUGHT,
    "72": Case(_lacks, kept=False, untouched=True),
    "74": Case(_brings_details, kept=False, untouched=True),
    "75": Case(lambda asked: "temperature" in asked.json, kept=False, untouched=True),
    "96": RESTORED,
    "98": RESTORED,
}


def _answers(folder: Path, exchange: int) -> tuple[Answer | None, Answer | None]:
    """The refusal and the answer of an exchange, where there was one."""
    refused = answered = None
    for path in sorted(folder.glob(f"{exchange}-provider.*.answered.*.txt")):
        body, status = path.read_bytes(), int(path.suffixes[-2][1:])
        kind = "application/json" if body[:1] == b"{" else "text/event-stream"
        if status == 200 and b'"error"' not in body:
            answered = Answer(status, [body], kind)
        else:
            refused = refused or Answer(status, [body], kind)
    return refused, answered


def _thoughts(stream: bytes) -> str:
    """What a recorded stream thought, whatever the wire; a whole message at its end only repeats it."""
    return "".join(_fragments(stream))


def _fragments(stream: bytes) -> Iterator[str]:
    for line in stream.splitlines():
        if not line.startswith(b"data: {"):
            continue
        event = json.loads(line[6:])
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {}
            details = delta.get("reasoning_details") or ()
            summaries = "".join(one.get("summary") or "" for one in details)
            yield delta.get("reasoning_content") or delta.get("reasoning") or summaries
        if event.get("type") == "content_block_delta":
            yield event["delta"].get("thinking", "")
        item = event.get("item") or {}
        if event.get("type") == "response.output_item.done" and item["type"] == "reasoning":
            yield "".join(part["text"] for part in item.get("content") or item["summary"])


def _number(folder: Path) -> str:
    return folder.name.partition("-")[0]


FOLDERS = sorted(FOLDER.iterdir(), key=lambda folder: int(_number(folder)))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_the_client_gets_its_answer(lab: Lab, folder: Path) -> None:
    case = CASES[_number(folder)]
    what = (folder / "what.txt").read_text()
    thoughts = list(case.own)
    for exchange, host, path in re.findall(r"exchange (\d+): POST https://([^/]+)(\S+)", what):
        body = (folder / f"{exchange}-client.request.json").read_bytes()
        refused, answered = _answers(folder, int(exchange))

        def provider(
            asked: Asked, no: Answer | None = refused, yes: Answer | None = answered
        ) -> Answer | None:
            return no if no is not None and case.refused is not None and case.refused(asked) else yes

        lab.behaves(provider)
        before = len(lab.servers.ledger)
        seen = lab.post(Place(host, path, json.loads(body)["model"]), body, f"sk-{folder.name}")
        got = lab.servers.ledger[before:]
        assert seen.status == 200
        assert b'"error"' not in seen.body
        assert len(got) <= 2
        if case.kept:
            assert [list(dict.fromkeys(texts)) for texts in got[-1].readable] == [[one] for one in thoughts]
        if answered is not None and (thought := _thoughts(answered.body)):
            thoughts.append(thought)
    if case.sealed:
        assert [bool(turn.seals) for turn in got[-1].turns] == [True]
        assert not _brings_an_index(got[-1])
    if case.untouched:
        assert [difference(body, asked.body) for asked in got] == [NOTHING]


def test_every_folder_is_known() -> None:
    assert {_number(folder) for folder in FOLDERS} == set(CASES)
