"""`env` in real shells: what they have after they evaluated its lines, and after they undid them."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from reasoning_fix.cli.env import SHELLS, asking_shell, cmd, fish, posix, powershell
from reasoning_fix.machine.environment import REPLACED, table
from tests.console import Home
from tests.provider.simulator import Simulator

NASTY = '/a b/it\'s $HOME `id` \\ "x"; & | ünï %PATH%.pem'
DUMP = "import json, os; print(json.dumps(dict(os.environ)))"


@pytest.fixture
def home(provider: Simulator, tmp_path: Path) -> Home:
    return Home(tmp_path / "a person's home", provider)


def shell_program(name: str) -> str:
    program = shutil.which({"powershell": "pwsh"}.get(name, name))
    if program is None:
        pytest.skip(f"{name} is not installed here")
    return program


def variables_after(home: Home, shell: str, script: str, **variables: str) -> dict[str, str]:
    """The environment of a program that this shell starts at the end of a script; $PY and $RF are at hand."""
    dump = home.folder / "dump.py"
    dump.write_text(DUMP)
    python, *words = home.command()
    made = script.replace("{RF}", f"{python} {' '.join(words)}").replace("{DUMP}", f"{python} '../dump.py'")
    flags = {"powershell": ["-NoProfile", "-Command"], "fish": ["--no-config", "-c"]}.get(shell, ["-c"])
    work = home.folder / "work"
    work.mkdir(exist_ok=True)
    result = subprocess.run(
        [shell_program(shell), *flags, made],
        env=home.environment(variables),
        cwd=work,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    found: dict[str, str] = json.loads(result.stdout.strip().splitlines()[-1])
    return found


SET = {
    "bash": 'eval "$({RF} env --shell bash)"',
    "zsh": 'eval "$({RF} env --shell zsh)"',
    "fish": "{RF} env --shell fish | source",
    "powershell": "{RF} env --shell powershell | Out-String | Invoke-Expression",
}
ALL_SHELLS = pytest.mark.parametrize("shell", SET)


@ALL_SHELLS
def test_a_shell_has_every_variable(home: Home, shell: str) -> None:
    found = variables_after(home, shell, f"{SET[shell]}; {{DUMP}}")
    expected = json.loads(home.run("env", "--json").stdout)
    assert {name: found.get(name) for name in expected} == expected
    assert found["HTTPS_PROXY"] == "http://127.0.0.1:8080"
    assert found["NODE_EXTRA_CA_CERTS"] == str(home.ca)
    assert {row.name for row in table()} <= set(expected)


@ALL_SHELLS
def test_undone_a_shell_is_as_before(home: Home, shell: str) -> None:
    own = {"HTTPS_PROXY": "http://corp:3128", "NO_PROXY": "intra.example", "SSL_CERT_FILE": NASTY}
    undo = SET[shell].replace(" env ", " env --unset ")
    before = variables_after(home, shell, "{DUMP}", **own)
    after = variables_after(home, shell, f"{SET[shell]}; {SET[shell]}; {undo}; {{DUMP}}", **own)
    for changing in ("_", "SHLVL", "PSModulePath"):
        before.pop(changing, None)
        after.pop(changing, None)
    assert after == before


def test_the_persons_own_values_are_respected(home: Home) -> None:
    corporate = home.folder / "corporate.pem"
    corporate.write_bytes(Path(home.config["ssl_verify_upstream_trusted_ca"]).read_bytes())
    result = home.run("env", "--json", NO_PROXY="intra.example,deepseek.com", AWS_CA_BUNDLE=str(corporate))
    found = json.loads(result.stdout)
    assert found["NO_PROXY"] == "localhost,127.0.0.1,::1,intra.example"
    body = corporate.read_text().split("-----")[2].split()
    assert "".join(body) in "".join(Path(found["SSL_CERT_FILE"]).read_text().split())


@pytest.mark.parametrize(
    ("config", "words", "expected"),
    [
        ({}, (), "127.0.0.1:8080"),
        ({"listen_port": "9999"}, (), "127.0.0.1:9999"),
        ({"listen_port": "9999"}, ("--port", "7777"), "127.0.0.1:7777"),
        ({"listen_host": "0.0.0.0"}, (), "127.0.0.1:8080"),
        ({"listen_host": "'::1'"}, (), "[::1]:8080"),
    ],
)
def test_where_the_proxy_is(
    home: Home, config: dict[str, str], words: tuple[str, ...], expected: str
) -> None:
    home.configure(**config)
    result = home.run("env", "--json", *words)
    assert json.loads(result.stdout)["HTTPS_PROXY"] == f"http://{expected}"


def test_without_a_proxy_it_says_so_beside_the_lines(home: Home) -> None:
    result = home.run("env", "--shell", "bash", "--port", "1")
    assert result.returncode == 0
    assert "no proxy with this CA answers at 127.0.0.1:1" in result.stderr
    assert all(line.startswith("export ") for line in result.stdout.splitlines())


def test_unset_needs_and_makes_nothing(home: Home) -> None:
    result = home.run("env", "--unset", "--json")
    assert json.loads(result.stdout) == dict.fromkeys([*(row.name for row in table()), REPLACED])
    assert not home.ca.exists()


def test_the_shell_that_asks_is_recognised(home: Home) -> None:
    """$SHELL names another one: what counts is who asks."""
    found = variables_after(home, "bash", 'eval "$({RF} env)"; {DUMP}', SHELL="/usr/bin/fish")
    assert found["HTTPS_PROXY"] == "http://127.0.0.1:8080"


@pytest.mark.parametrize(
    ("parent", "login", "expected"),
    [
        ("zsh\n", "/bin/bash", "zsh"),
        ("-bash\n", "/bin/fish", "bash"),
        ("/usr/local/bin/fish", "", "fish"),
        ("pwsh", "", "powershell"),
        ("C:\\Windows\\System32\\cmd.exe", "", "cmd"),
        ("python3", "/usr/bin/fish", "fish"),
        ("dash", "/bin/dash", "bash"),
        ("", "", "bash"),
    ],
)
def test_which_shell(parent: str, login: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reasoning_fix.cli.env._parent_name", lambda: parent)
    monkeypatch.setenv("SHELL", login)
    assert asking_shell() == expected


@pytest.mark.skipif(os.name != "posix", reason="a POSIX shell is needed")
@pytest.mark.parametrize("value", [NASTY, "", "-n", "a\nb", "!x", "~"])
def test_posix_quoting_in_the_shell_of_this_system(value: str) -> None:
    script = f'{posix("X_VALUE", value)}\nprintf %s "$X_VALUE"'
    assert (
        subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True).stdout == value
    )


@pytest.mark.parametrize(
    ("line", "value", "expected"),
    [
        (posix, None, "unset X"),
        (fish, "it's \\", "set -gx X 'it\\'s \\\\'"),
        (fish, "$HOME (x)", "set -gx X '$HOME (x)'"),
        (fish, None, "set -e X"),
        (powershell, "it's ‘$x’", "$env:X = 'it''s ‘‘$x’’'"),
        (powershell, None, "Remove-Item Env:X -ErrorAction SilentlyContinue"),
        (cmd, "C:\\a & b\\c.pem", 'set "X=C:\\a & b\\c.pem"'),
        (cmd, None, 'set "X="'),
    ],
)
def test_quoting(line: "object", value: str | None, expected: str) -> None:
    assert callable(line)
    assert line("X", value) == expected


def test_every_shell_has_its_lines() -> None:
    assert set(SHELLS) == {"bash", "zsh", "fish", "powershell", "cmd"}
