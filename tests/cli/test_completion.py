"""The tab key, in the shells that are here."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from reasoning_fix.cli import main
from reasoning_fix.cli.completion import SHELLS


def completed(line: str, tmp_path: Path) -> list[str]:
    """What may come next, as a shell asks: through file descriptor 8 (argcomplete's protocol)."""
    out = tmp_path / "completions"
    asked = {
        "_ARGCOMPLETE": "1",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "_ARGCOMPLETE_STDOUT_FILENAME": str(out),
        "_ARGCOMPLETE_IFS": "\n",
    }
    command = [sys.executable, "-c", "import sys; from reasoning_fix.cli import main; sys.exit(main())"]
    subprocess.run(command, env=os.environ | asked, check=True, stdout=subprocess.DEVNULL)
    return [word.strip() for word in out.read_text().split("\n") if word]


def test_commands_and_their_options(tmp_path: Path) -> None:
    assert completed("reasoning-fix un", tmp_path) == ["uninstall"]
    assert {"stats", "system-proxy", "service"} <= set(completed("reasoning-fix s", tmp_path))
    assert {"--data", "--dry-run"} <= set(completed("reasoning-fix uninstall --", tmp_path))
    assert completed("reasoning-fix service st", tmp_path) == ["status"]


@pytest.mark.parametrize("shell", SHELLS)
def test_what_a_shell_takes(shell: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["completion", shell]) == 0
    code = capsys.readouterr().out
    assert "reasoning-fix" in code
    program = shutil.which(shell)
    if program is not None and shell != "powershell":
        path = tmp_path / "code"
        path.write_text(code)
        subprocess.run([program, "-n", str(path)], check=True)


def test_without_the_library(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "argcomplete", None)
    assert main(["completion", "bash"]) == 2
    assert "reasoning-fix[completion]" in capsys.readouterr().err
