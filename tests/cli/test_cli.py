"""What every command says of itself: purpose, options, examples, exit codes, in this order."""

import re
from pathlib import Path

import pytest

from reasoning_fix.cli import COMMANDS, main


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    # What mitmproxy says of its own options comes behind ours.
    text = capsys.readouterr().out.partition("\nOptions of mitm")[0]
    found = re.fullmatch(
        r"usage: reasoning-fix (?P<usage>.+?)\n\n(?P<purpose>.+?)\n\n(?:(?P<more>.+)\n\n)?"
        r"(?P<options>(?:options|positional arguments|actions):\n.+?)\n\n"
        r"examples:\n(?P<examples>.+?)\n\n(?P<codes>Exit codes: .+)",
        text,
        re.DOTALL,
    )
    assert found is not None, text
    assert "\n" not in found["purpose"].partition(":")[0] and len(found["purpose"]) < 120
    examples = found["examples"].splitlines()
    assert len(examples) >= 2 and all(line.startswith("  ") for line in examples)
    assert sum(f"reasoning-fix {command}" in line for line in examples) >= 1
    assert str(Path.home()) not in text, "paths of a person's home are written with ~"
