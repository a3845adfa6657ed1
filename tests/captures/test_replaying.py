"""What a saved capture tells: end-to-end scenarios are captured, replayed and compared with what was sent."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import flow, http

from reasoning_fix import cli
from reasoning_fix.captures import flow_files
from reasoning_fix.captures.flow_files import CaptureError
from reasoning_fix.captures.redacting.flows import redact
from reasoning_fix.captures.replaying import replay
from reasoning_fix.providers.table import load_table
from reasoning_fix.proxy import metadata
from reasoning_fix.proxy.chat_request import chat_request
from tests.captured import Studio, agrees, play, scenarios, told, write
from tests.end_to_end import test_chat as test_end_to_end
from tests.end_to_end import test_dialects as test_dialects_end_to_end
from tests.provider.simulator import Simulator

# They are about connections, disks or time, and capture no chat request or hundreds of them.
LEFT_OUT = (
    "no_thought_crosses_between_a_hundred_conversations",
    "nothing_readable_is_kept_on_disk_or_in_the_log",
    "a_foreign_host_keeps_its_own_certificate",
    "only_provider_hosts_are_signed_by_the_proxy",
    "many_streams_at_once_do_not_wait_for_each_other",
    "anthropic_itself_is_never_decrypted",
    "a_body_with_nothing_to_restore_stays_as_it_is",
    # Its answers are its own, which the ledger cannot judge.
    "a_summary_goes_back_only_as_it_is_taken",
)
SCENARIOS = list(scenarios(test_end_to_end, test_dialects_end_to_end, left_out=LEFT_OUT))


@pytest.mark.parametrize(("scenario", "row"), SCENARIOS)
def test_a_replay_agrees_with_what_was_sent(
    provider: Simulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scenario: Callable[..., None],
    row: dict[str, Any],
) -> None:
    captured = Studio(provider, tmp_path).take(scenario, **row)
    played, matches = play(captured, monkeypatch)
    assert matches
    for match in matches:
        agrees(match)
        assert not match.played.remarks or match.played.remarks == [
            "it was refused at first, repaired and sent again"
        ]
        if match.body is not None and b"not on record" not in match.body:
            assert match.body == match.flow.request.content
    assert played.summary.differing == 0
    # And it can be shared: a copy without texts says the same.
    assert told(replay(redact(captured.flows, captured.table).flows, captured.table)) == told(played)


# ---- What the file says, and what it does not --------------------------------------------------------------


@pytest.fixture(scope="module")
def three_turns(
    _simulator: Simulator, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[flow.Flow]]:
    """A capture of three requests to DeepSeek, streamed."""
    studio = Studio(_simulator, tmp_path_factory.mktemp("three"))
    which = test_end_to_end.DEEPSEEK
    captured = studio.take(test_end_to_end.test_three_turns_with_tools_work, which=which, streamed=True)
    return studio.files[0], captured.flows


def again(path: Path) -> list[list[str]]:
    """The statuses of every request of a file."""
    return [one.now for one in replay(flow_files.load(path), load_table()).requests]


WHOLE = [[], ["restored"], ["restored"] * 2, ["restored"] * 3]


def test_a_capture_is_read_as_the_client_sent_it(three_turns: tuple[Path, list[flow.Flow]]) -> None:
    path, flows = three_turns
    table = load_table()
    assert again(path) == WHOLE
    sent = [chat_request(1, one, table) for one in flows]
    for one, found in zip(flows, sent, strict=True):
        assert isinstance(one, http.HTTPFlow) and found is not None and one.request.content is not None
        assert b"reasoning_content" not in found.body
        assert (b"reasoning_content" in one.request.content) == (one is not flows[0])
        assert not found.altered


def test_the_order_of_the_file_does_not_matter(
    three_turns: tuple[Path, list[flow.Flow]], tmp_path: Path
) -> None:
    path = write(tmp_path / "backwards.mitm", three_turns[1][::-1])
    assert again(path) == WHOLE[::-1]


def test_an_answer_counts_once_it_has_come(three_turns: tuple[Path, list[flow.Flow]], tmp_path: Path) -> None:
    """Without notes the end of the answer tells: one that ended after the next request came is too late."""
    flows = copies(three_turns[1])
    for one in flows:
        one.metadata.clear()
        undo(one)
    assert again(write(tmp_path / "plain.mitm", [*flows])) == WHOLE
    assert flows[0].response is not None
    flows[0].response.timestamp_end = 1e12
    late = again(write(tmp_path / "late.mitm", [*flows]))
    assert late[1] == ["filled"] and late[2] == ["filled", "restored"]


def test_a_repaired_request_that_cannot_be_undone_is_said_so(
    three_turns: tuple[Path, list[flow.Flow]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flows = copies(three_turns[1])
    for one in flows[1:]:
        one.metadata[metadata.KEY]["before_turns"] = None
    path = write(tmp_path / "altered.mitm", [*flows])
    assert cli.main(["replay", str(path)]) == 0
    said = capsys.readouterr().out
    assert said.count("as it was repaired") == 3 and "6 sent" in said


def test_a_replay_in_another_mode(
    three_turns: tuple[Path, list[flow.Flow]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flows = copies(three_turns[1])
    last = write(tmp_path / "last.mitm", [flows[-1]])
    assert again(last) == [["filled"] * 3]
    assert cli.main(["replay", str(last), "--fallback", "none", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["summary"]["turns"] == {"absent": 3}
    assert told["requests"][0]["then"] == ["restored"] * 3
    assert "then it was: restored, restored, restored" in told["requests"][0]["remarks"]
    assert all(turn["line"] == "" for turn in told["requests"][0]["explanation"]["turns"])


def test_the_summary(three_turns: tuple[Path, list[flow.Flow]], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["replay", str(three_turns[0])]) == 0
    *requests, summary = capsys.readouterr().out.splitlines()
    assert requests[-1].startswith("#4 api.deepseek.com deepseek-flash (chat_completions): restored 3 of 3")
    assert summary == (
        "4 chat requests in 4 flows; turns: 6 restored (restored 6 by context); answers: 4 recorded"
    )


def test_answers_that_are_missing_or_broken(
    three_turns: tuple[Path, list[flow.Flow]], tmp_path: Path
) -> None:
    flows = copies(three_turns[1])
    first, second, third, last = (one.response for one in flows)
    assert first and second and third and last
    first.raw_content, second.status_code, third.headers["content-encoding"] = None, 500, "odd"
    last.headers["content-type"] = "text/html"
    played = replay(flow_files.load(write(tmp_path / "odd.mitm", [*flows])), load_table())
    answers = [one.answer for one in played.requests]
    assert answers == ["not in the file", "refused", "not recorded", "not read"]


def copies(flows: list[flow.Flow]) -> list[http.HTTPFlow]:
    return [one.copy() for one in flows if isinstance(one, http.HTTPFlow)]


def undo(one: http.HTTPFlow) -> None:
    body = json.loads(one.request.content or b"")
    for message in body["messages"]:
        message.pop("reasoning_content", None)
    one.request.content = json.dumps(body).encode()


# ---- Files that are none -----------------------------------------------------------------------------------

BROKEN = {
    "empty": b"",
    "text": b"root:x:0:0\n",
    "json": b'{"log": 3}',
    "zeros": bytes(5000),
    "a number": b"3:123#",
    "a list": b"0:]",
    "another dictionary": b"7:3:abc,0:}}",
    "a flow without anything": b"0:}",
}


@pytest.mark.parametrize("command", ["explain", "replay", "redact"])
@pytest.mark.parametrize(("name", "content"), BROKEN.items(), ids=BROKEN)
def test_a_foreign_file_is_said_in_one_line(
    command: str, name: str, content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "foreign"
    path.write_bytes(content)
    out = [str(tmp_path / "out")] if command == "redact" else []
    assert cli.main([command, str(path), *out]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("reasoning-fix: ") and said.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("part", [0.1, 0.3, 0.6, 0.99])
def test_a_file_that_was_cut_short_is_said_so(
    part: float, three_turns: tuple[Path, list[flow.Flow]], tmp_path: Path
) -> None:
    whole = three_turns[0].read_bytes()
    path = tmp_path / "cut"
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(CaptureError, match=r"cut short after \d|is not a flow file") as raised:
        flow_files.load(path)
    assert "\n" not in str(raised.value)


def test_a_flow_file_with_any_byte_changed_is_read_or_refused(
    three_turns: tuple[Path, list[flow.Flow]], tmp_path: Path
) -> None:
    whole = bytearray(three_turns[0].read_bytes())
    path = tmp_path / "changed"
    for at in range(0, len(whole), 997):
        changed = bytearray(whole)
        changed[at] ^= 0x15
        path.write_bytes(changed)
        try:
            replay(flow_files.load(path), load_table())
        except CaptureError as error:
            assert "\n" not in str(error)


def test_a_missing_file_or_flow_is_said(
    three_turns: tuple[Path, list[flow.Flow]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["replay", str(tmp_path / "none")]) == 2
    assert "cannot be read: No such file" in capsys.readouterr().err
    assert cli.main(["explain", str(three_turns[0]), "--flow", "9"]) == 2
    assert "there is no flow 9" in capsys.readouterr().err
