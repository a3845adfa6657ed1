"""The simulator in a process of its own, which knows what every turn of every conversation must carry.

The simulator's ledger recognises a turn by what it says, so it cannot tell apart conversations that say the
same, and it takes longer with every turn. Here the client names its conversation (`x-conversation`) and what
is to be answered (`x-say`: JSON with `text` and `calls`). The thought is the examiner's own, never the same
twice, and names its owner: whoever gets somebody else's sees whose it is.

Started without arguments it prints its port and its CA's file as a line of JSON, answers every line with its
`Findings`, and ends with its input.
"""

import json
import secrets
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import msgspec

from tests import ROOT
from tests.provider.ledger import Ledger
from tests.provider.refusals import Asked
from tests.provider.simulator import BY_HOST, Simulator
from tests.provider.turns import Answer, Call, Issued, Part, RawAnswer, Sent, Text, Thought, Verdict

PLACEHOLDER = "[reasoning not on record"
# Answered to a request with a wrong thought: nothing repairs it, and the one who asked gets to read it.
WRONG_STATUS = 599
_ROOT = ROOT


class Findings(msgspec.Struct):
    """What came back: turns with exactly their thought, and what was wrong with the others (the first 20).

    `refused` requests were answered with 400 before anybody looked at their thoughts.
    """

    requests: int = 0
    refused: int = 0
    exact: int = 0
    missing: int = 0
    wrong: int = 0
    details: list[str] = []

    def tell(self, detail: str) -> None:
        if len(self.details) < 20:
            self.details.append(detail)


class _NoLedger(Ledger):
    """The examiner knows what the ledger would have to guess."""

    def judge(self, host: str, conversation: str, sent: Sent) -> Verdict:
        return "unknown"

    def had_none(self, host: str, conversation: str, sent: Sent) -> bool:
        return False

    def find(self, host: str, conversation: str, sent: Sent) -> list[Issued]:
        return []


class Examiner:
    """Examines and answers every request. A conversation belongs to one credential at one host."""

    def __init__(self, simulator: Simulator, pause: float) -> None:
        self.findings = Findings()
        self._simulator = simulator
        self._pause = pause
        self._thoughts: defaultdict[tuple[str, str, str], list[str]] = defaultdict(list)

    def answer(self, asked: Asked) -> Answer | RawAnswer:
        self.findings.requests += 1
        self.findings.refused += sum(request.status == 400 for request in self._simulator.requests)
        self._simulator.requests.clear()
        self._simulator.ledger.turns.clear()
        owner = asked.host, asked.headers["authorization"], asked.headers["x-conversation"]
        thoughts = self._thoughts[owner]
        carried = [sent.reasoning for sent in asked.turns]
        if len(carried) != len(thoughts):
            return self._wrong(f"{owner} sent {len(carried)} turns of {len(thoughts)}")
        for number, (thought, issued) in enumerate(zip(carried, thoughts, strict=True)):
            if thought == issued:
                self.findings.exact += 1
            elif not (thought or "").strip() or str(thought).startswith(PLACEHOLDER):
                self.findings.missing += 1
                self.findings.tell(f"{owner}, turn {number} of {len(carried)}: missing ({thought!r})")
            else:
                return self._wrong(f"{owner}, turn {number} of {len(carried)}: {thought!r}, not {issued!r}")
        thoughts.append(_thought(owner, len(thoughts)))
        say = json.loads(asked.headers["x-say"])
        parts: list[Part] = [Thought(thoughts[-1])]
        parts += [Text(say["text"])] if say["text"] else []
        parts += [Call(*call) for call in say["calls"]]
        return Answer(tuple(parts), pause=self._pause)

    def _wrong(self, detail: str) -> RawAnswer:
        self.findings.wrong += 1
        self.findings.tell(detail)
        return RawAnswer(WRONG_STATUS, (), (detail.encode(),))


def _thought(owner: tuple[str, str, str], number: int) -> str:
    """With what JSON, white space and encodings could change."""
    host, key, conversation = owner
    mark = secrets.token_hex(8)
    return f' {mark}: turn {number} of {conversation} at {host} for {key}.\n\t"Zürich" \\u4e2d 苏黎世 — 🌦 \n '


class ExaminerProcess:
    """The examiner's process, started; as `Upstream` for a proxy."""

    def __init__(self, pause: float) -> None:
        command = [sys.executable, "-m", "tests.provider.examiner", str(pause)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_ROOT
        )
        said = json.loads(self._line())
        self.port: int = said["port"]
        self.ca = Path(said["ca"])

    def findings(self) -> Findings:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return msgspec.json.decode(self._line(), type=Findings)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


def main() -> None:
    simulator = Simulator()
    simulator.ledger = _NoLedger()
    for host in BY_HOST:
        simulator.settings[host].clock = True
    examiner = Examiner(simulator, float(sys.argv[1]))
    simulator.improvise = examiner.answer
    simulator.start()
    print(json.dumps({"port": simulator.port, "ca": str(simulator.ca)}), flush=True)
    for _ in sys.stdin:
        print(msgspec.json.encode(examiner.findings).decode(), flush=True)
    simulator.close()


if __name__ == "__main__":
    main()
