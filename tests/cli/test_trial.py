"""`reasoning-fix try`: it shows the refusal and the repair, and leaves nothing behind."""

from pathlib import Path
from typing import Any

import pytest

from reasoning_fix.running.example import ANSWER, CALL, REFUSAL, THOUGHTS, answered, refused
from tests.console import Home
from tests.provider.refusals import DEEPSEEK_MISSING
from tests.provider.simulator import Simulator


def test_it_works_here(provider: Simulator, tmp_path: Path) -> None:
    home = Home(tmp_path, provider)
    before = set(tmp_path.rglob("*"))
    result = home.run("try", TMPDIR=str(tmp_path))
    assert result.returncode == 0, result.stdout + result.stderr
    without, _, through = result.stdout.partition("Through the proxy:")
    assert f"HTTP 400   {REFUSAL}" in without and ANSWER not in without
    assert ANSWER in through and repr(THOUGHTS[0]) in through and "HTTP 400" not in through
    assert set(tmp_path.rglob("*")) == before, "nothing is left, and no CA of the person's was made"


@pytest.mark.parametrize(("thought", "is_refused"), [(None, True), ("", True), (THOUGHTS[0], False)])
def test_the_example_demands_what_deepseek_demands(thought: str | None, is_refused: bool) -> None:
    said: dict[str, Any] = {
        "role": "assistant",
        "content": "",
        "tool_calls": [CALL],
        "reasoning_content": thought,
    }
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "?"},
        said,
        {"role": "tool", "content": "dry"},
    ]
    assert (refused(messages) is not None) is is_refused
    assert answered(messages)["choices"][0]["message"]["content"] == ANSWER
    assert REFUSAL == DEEPSEEK_MISSING
