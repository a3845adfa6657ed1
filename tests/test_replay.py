"""What a saved capture tells: every end-to-end scenario is captured, replayed and compared with what was sent."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import flow, http

from reasoning_fix import captures, cli, notes, providers
from reasoning_fix.captures import CaptureError
from reasoning_fix.replaying import replay
from tests import test_dialects_end_to_end, test_end_to_end
from tests.captured import Studio, agrees, play, scenarios, write
from tests.provider.simulator import Simulator

# They are about connections, disks or time, and capture no chat request or hundreds of them.
LEFT_OUT = (
    "no_thought_crosses_between_two_hundred_conversations",
    "nothing_readable_is_kept_on_disk_or_in_the_log",
    "a_foreign_host_keeps_its_own_certificate",
    "only_provider_hosts_are_signed_by_the_proxy",
    "many_streams_at_once_do_not_wait_for_each_other",
    "anthropic_itself_is_never_decrypted",
    "a_body_with_nothing_to_restore_stays_as_it_is",
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
