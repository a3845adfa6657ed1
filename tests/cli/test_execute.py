"""`exec`: real programs through a proxy of their own or one that runs; terminal, signals, exit codes."""

import base64
import contextlib
import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.console import SECONDS, Command, Home, is_open, wait_until_closed
from tests.corporate import Corporate
from tests.provider.simulator import DEEPSEEK, Simulator

pytestmark = pytest.mark.skipif(os.name != "posix", reason="exec becomes its program on POSIX only")

KEY = "sk-0123456789abcdef-exec"
CALL = ("call_00_9V0vrf86Pc9aelHCJMZqnJBo", "get_weather", '{"city": "Zürich"}')
URL = f"{DEEPSEEK.base_url}/chat/completions"
# A client that keeps role, content and tool calls: the openai library, with nothing said about any proxy.
PYTHON_CLIENT = """
import openai
api = openai.OpenAI(base_url="{base_url}", api_key="{key}", max_retries=0, timeout=20)
tools = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]
history = [{"role": "user", "content": "Weather in Zürich?"}]
first = api.chat.completions.create(model="{model}", messages=history, tools=tools)
call = first.choices[0].message.tool_calls[0]
function = {"name": call.function.name, "arguments": call.function.arguments}
history.append({"role": "assistant", "content": "", "tool_calls": [
    {"id": call.id, "type": "function", "function": function}]})
history.append({"role": "tool", "tool_call_id": call.id, "content": "21 °C"})
print(api.chat.completions.create(model="{model}", messages=history, tools=tools).choices[0].message.content)
"""
NODE_CLIENT = """
const OpenAI = require("openai").default ?? require("openai");
const { EnvHttpProxyAgent, fetch } = require("undici");
const dispatcher = new EnvHttpProxyAgent();
const api = new OpenAI({ baseURL: "{base_url}", apiKey: "{key}", maxRetries: 0, timeout: 20000,
  fetch: (url, init) => fetch(url, { ...init, dispatcher }) });
const tools = [{ type: "function", function: { name: "get_weather", parameters: { type: "object" } } }];
const messages = [{ role: "user", content: "Weather in Zürich?" }];
(async () => {
  const first = await api.chat.completions.create({ model: "{model}", messages, tools });
  const [call] = first.choices[0].message.tool_calls;
  messages.push({ role: "assistant", content: "", tool_calls: [call] });
  messages.push({ role: "tool", tool_call_id: call.id, content: "21 °C" });
  const second = await api.chat.completions.create({ model: "{model}", messages, tools });
  console.log(second.choices[0].message.content);
  process.exit(0);
})().catch((error) => { console.error(error); process.exit(1); });
"""


@pytest.fixture
def home(provider: Simulator, tmp_path: Path) -> Home:
    return Home(tmp_path / "home", provider)


@pytest.fixture
def conversation(provider: Simulator) -> Simulator:
    """The provider will ask for a tool call, and then answer if it gets its reasoning back."""
    provider.say(reasoning="The user wants the weather: call the tool.", calls=[CALL])
    provider.say(reasoning="21 degrees.", text="21 °C and dry.")
    return provider


def filled(client: str) -> str:
    values = {"base_url": DEEPSEEK.base_url, "key": KEY, "model": DEEPSEEK.model}
    for name, value in values.items():
        client = client.replace("{" + name + "}", value)
    return client


def proxy_port(text: str) -> int:
    match = re.search(r"127\.0\.0\.1:(\d+)", text)
    assert match is not None, text
    return int(match[1])


# ---- Programs --------------------------------------------------------------------------------------------


def test_curl(home: Home, provider: Simulator) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed here")
    provider.say(reasoning="A greeting.", text="Hello from the provider.")
    body = json.dumps({"model": DEEPSEEK.model, "messages": [{"role": "user", "content": "hi"}]})
    result = home.run("exec", "--", curl, "-sS", URL, "-H", "content-type: application/json", "-d", body)
    assert result.returncode == 0, result.stderr
    assert "Hello from the provider." in result.stdout
    assert result.stderr == ""


def test_the_openai_library_of_python(home: Home, conversation: Simulator) -> None:
    result = home.run("exec", sys.executable, "-c", filled(PYTHON_CLIENT))
    assert result.stdout == "21 °C and dry.\n", result.stderr
    assert conversation.requests[-1].verdicts == ["exact"]
    assert "restored 1 of 1 turns" in home.exec_log()


def test_the_openai_library_of_node(home: Home, conversation: Simulator, tmp_path: Path) -> None:
    """npm's `openai` and `undici`, where they are: in the folder that NODE_PATH names."""
    node = shutil.which("node")
    packages = os.environ.get("NODE_PATH", "")
    if node is None or not all((Path(packages) / name).is_dir() for name in ("openai", "undici")):
        pytest.skip("node, or npm's openai and undici in the folder NODE_PATH, is not here")
    script = tmp_path / "client.cjs"
    script.write_text(filled(NODE_CLIENT))
    result = home.run("exec", "--", node, str(script))
    assert result.stdout == "21 °C and dry.\n", result.stderr
    assert conversation.requests[-1].verdicts == ["exact"]


def test_standard_input_output_and_words_are_the_programs_own(home: Home) -> None:
    code = "import sys; print(sys.argv[1:], sys.stdin.read()); print('oops', file=sys.stderr)"
    result = home.run("exec", sys.executable, "-c", code, "--", "-h", "a b", given="said")
    assert (result.stdout, result.stderr) == ("['--', '-h', 'a b'] said\n", "oops\n")


def test_a_module_in_the_current_folder_takes_no_place_of_ours(home: Home) -> None:
    for name in ("msgspec", "platformdirs", "certifi", "mitmproxy"):
        (home.folder / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    command = [str(Path(sys.executable).with_name("reasoning-fix")), "exec", "--", "true"]
    if not Path(command[0]).exists():
        pytest.skip("the console command is not installed here")
    result = subprocess.run(
        command, env=home.environment(), cwd=home.folder, capture_output=True, text=True, timeout=SECONDS
    )
    assert result.returncode == 0, result.stderr


# ---- Exit codes and signals ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--", "sh", "-c", "exit 0"), 0),
        (("sh", "-c", "exit 7"), 7),
        (("no-such-program",), 127),
        (("--", "./no-such-program"), 127),
        (("./not-runnable",), 126),
        (("--no-such-option", "true"), 2),
    ],
)
def test_exit_codes(home: Home, words: tuple[str, ...], code: int) -> None:
    (home.folder / "not-runnable").write_text("")
    assert home.run("exec", *words).returncode == code


def test_a_proxy_that_does_not_start(home: Home) -> None:
    home.configure(scripts="[no-such-script.py]")
    result = home.run("exec", "--", "true")
    assert result.returncode == 125
    assert "no-such-script.py" in result.stderr


def test_a_signal_is_128_and_its_number_to_a_shell(home: Home) -> None:
    words = " ".join(home.command("exec", "--", "sh", "-c", "'kill -TERM $$'"))
    result = subprocess.run(
        ["sh", "-c", f"{words}; echo $?"], env=home.environment(), capture_output=True, text=True, check=False
    )
    assert result.stdout == f"{128 + signal.SIGTERM}\n"


WAITING = """
import os, signal, sys, time
def told(number, frame):
    print("got", signal.Signals(number).name, flush=True)
    if number == signal.SIGTERM: sys.exit(3)
for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1): signal.signal(each, told)
print("proxy", os.environ["HTTPS_PROXY"], flush=True)
while True: time.sleep(0.02)
"""


def test_signals_reach_the_program_once_and_the_proxy_lives_as_long_as_it(home: Home) -> None:
    command = Command(home, "exec", "--", sys.executable, "-c", WAITING)
    port = proxy_port(command.wait_for(r"proxy (\S+)")[1])
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        command.process.send_signal(number)
        command.wait_for(f"got {number.name}")
    command.process.send_signal(signal.SIGTERM)
    assert command.process.wait(SECONDS) == 3
    wait_until_closed(port)
    command.stop()
    assert [line for line in command.lines if line.startswith("got")] == [
        "got SIGINT\n", "got SIGHUP\n", "got SIGUSR1\n", "got SIGTERM\n"
    ]  # fmt: skip


def test_the_proxy_ends_when_the_program_is_killed(home: Home) -> None:
    command = Command(home, "exec", "--", sys.executable, "-c", WAITING)
    port = proxy_port(command.wait_for(r"proxy (\S+)")[1])
    assert is_open(port)
    command.process.kill()
    wait_until_closed(port)
    assert command.process.wait(SECONDS) == -signal.SIGKILL


def test_the_program_has_no_child_it_does_not_know_of(home: Home) -> None:
    code = "import os\ntry:\n os.waitpid(-1, os.WNOHANG)\nexcept ChildProcessError:\n print('none')"
    assert home.run("exec", sys.executable, "-c", code).stdout == "none\n"


def test_signals_that_python_ignores_are_as_they_were(home: Home) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("there is no /proc here")
    grep = ["grep", "SigIgn", "/proc/self/status"]
    direct = subprocess.run(grep, capture_output=True, text=True, check=True).stdout
    assert home.run("exec", *grep).stdout == direct


TERMINAL = """
import fcntl, os, select, signal, struct, sys, termios
def size(*_):
    rows, columns, *_ = struct.unpack("HHHH", fcntl.ioctl(0, termios.TIOCGWINSZ, b"\\0" * 8))
    print("size", rows, columns, flush=True)
def interrupted(*_):
    print("interrupted", flush=True)
signal.signal(signal.SIGWINCH, size)
signal.signal(signal.SIGINT, interrupted)
print("terminal", [os.isatty(each) for each in (0, 1, 2)], os.tcgetpgrp(0) == os.getpgrp(), flush=True)
said = b""
while b"end" not in said:  # never long in one call: a handler runs between them
    if select.select([0], [], [], 0.02)[0]:
        said += os.read(0, 1000)
print("line", said.decode().strip(), flush=True)
"""


class Terminal:
    """A program in a terminal of its own, as a shell would start it."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.execve(command[0], command, environment)
        self.text = ""

    def wait_for(self, pattern: str) -> re.Match[str]:
        end = time.monotonic() + SECONDS
        while not (match := re.search(pattern, self.text)):
            assert time.monotonic() < end, f"no {pattern!r} in {self.text!r}"
            if select.select([self.master], [], [], 0.1)[0]:
                self.text += os.read(self.master, 65536).decode(errors="replace")
        return match

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # that process is gone
        return b""


@pytest.fixture
def terminal(home: Home) -> Iterator[Terminal]:
    opened = Terminal(home.command("exec", "--", sys.executable, "-c", TERMINAL), home.environment())
    yield opened
    os.close(opened.master)
    try:
        os.kill(opened.pid, signal.SIGKILL)
        os.waitpid(opened.pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def test_the_program_has_the_terminal(terminal: Terminal) -> None:
    terminal.wait_for(r"terminal \[True, True, True\] True")
    fcntl.ioctl(terminal.master, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
    terminal.wait_for("size 33 77")
    terminal.type("\x03")
    terminal.wait_for("interrupted")
    terminal.type("\x03")
    terminal.wait_for(r"(?s)interrupted.*interrupted")
    owner = f"--attached\0{terminal.pid}\0".encode()
    if Path("/proc/self/cmdline").exists():
        (proxy,) = (each for each in Path("/proc").glob("[0-9]*/cmdline") if owner in _read(each))
        assert os.getsid(int(proxy.parent.name)) != terminal.pid, "Ctrl-C is for the program alone"
    terminal.type("end\r")
    terminal.wait_for("line end")
    _, status = os.waitpid(terminal.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert terminal.text.count("interrupted") == 2, "one for each Ctrl-C"


@contextlib.contextmanager
def in_terminal(home: Home, *words: str, **variables: str) -> Iterator[Terminal]:
    opened = Terminal(home.command("exec", *words), home.environment(variables))
    try:
        yield opened
    finally:
        os.close(opened.master)
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(opened.pid, signal.SIGKILL)
            os.waitpid(opened.pid, 0)


WAITS = "import sys; print('waits', flush=True); sys.stdin.readline(); print('over', flush=True)"
SAID = (
    r"reasoning-fix: gave back the reasoning of 1 turn for \S+; `reasoning-fix watch -p \d+` shows more\.\r\n"
)


def client_that(waits: str) -> str:
    return f"{filled(PYTHON_CLIENT)}\n{waits}"


def test_one_line_says_that_the_proxy_has_been_of_use(home: Home, conversation: Simulator) -> None:
    with in_terminal(home, "--", sys.executable, "-c", client_that(WAITS)) as terminal:
        terminal.wait_for("waits")
        terminal.wait_for(SAID)
        terminal.type("\r")
        terminal.wait_for("over")
    assert terminal.text.count("reasoning-fix:") == 1


def test_the_line_waits_while_a_program_draws_on_the_whole_terminal(
    home: Home, conversation: Simulator
) -> None:
    raw = "import termios, tty, time; kept = termios.tcgetattr(0); tty.setcbreak(0)"
    lines = "time.sleep(1.5); print('drawn', flush=True); termios.tcsetattr(0, termios.TCSANOW, kept)"
    with in_terminal(home, "--", sys.executable, "-c", f"{raw}\n{client_that(lines)}\n{WAITS}") as terminal:
        terminal.wait_for("drawn")
        assert "reasoning-fix:" not in terminal.text.partition("drawn")[0]
        terminal.wait_for(SAID)


@pytest.mark.parametrize("words", [("--quiet",), ()])
def test_nothing_is_said_where_nothing_was_done(
    home: Home, conversation: Simulator, words: tuple[str, ...]
) -> None:
    program = client_that("import time; time.sleep(1)") if words else "import time; time.sleep(1)"
    with in_terminal(home, *words, "--", sys.executable, "-c", f"{program}; print('over')") as terminal:
        terminal.wait_for("over")
        assert "reasoning-fix:" not in terminal.text


def test_a_shell_where_no_program_is_named(home: Home) -> None:
    with in_terminal(home, SHELL="/bin/sh") as terminal:
        terminal.wait_for("goes through the proxy; `exit` ends it")
        terminal.type("echo proxy=$HTTPS_PROXY\r")
        terminal.wait_for(r"proxy=http://127\.0\.0\.1:\d+")
        terminal.type("exit 3\r")
        _, status = os.waitpid(terminal.pid, 0)
        assert os.waitstatus_to_exitcode(status) == 3
    piped = home.run("exec", given="echo proxy=$HTTPS_PROXY; exit 4", SHELL="/bin/sh")
    assert (piped.returncode, piped.stderr) == (4, "") and piped.stdout.startswith("proxy=http://127")


# ---- Which proxy -----------------------------------------------------------------------------------------

SHOW_PROXY = ("sh", "-c", 'echo "$HTTPS_PROXY"')


def test_a_proxy_that_runs_is_used(home: Home) -> None:
    running = Command(home, "run", "-p", "0")
    try:
        port = proxy_port(running.wait_for(r"the proxy listens at (\S+)")[1])
        home.configure(listen_port=str(port))
        assert proxy_port(home.run("exec", *SHOW_PROXY).stdout) == port
        assert proxy_port(home.run("exec", "--port", str(port), *SHOW_PROXY).stdout) == port
        assert proxy_port(home.run("exec", "--fresh", *SHOW_PROXY).stdout) != port
        assert proxy_port(home.run("exec", "--set", "reasoning_fallback=none", *SHOW_PROXY).stdout) != port
        again = home.command("exec", *SHOW_PROXY)
        assert proxy_port(home.run("exec", *again).stdout) == port, "also from inside"
    finally:
        running.stop()


def test_another_server_at_the_port_is_not_used(home: Home, corporate: Corporate) -> None:
    home.configure(listen_port=str(corporate.port))
    assert proxy_port(home.run("exec", *SHOW_PROXY).stdout) != corporate.port


def test_the_persons_own_proxy_is_gone_through(
    home: Home, conversation: Simulator, corporate: Corporate
) -> None:
    variables = {"https_proxy": f"http://me:word@127.0.0.1:{corporate.port}"}
    result = home.run("exec", sys.executable, "-c", filled(PYTHON_CLIENT), **variables)
    assert result.stdout == "21 °C and dry.\n", result.stderr
    expected = "Basic " + base64.b64encode(b"me:word").decode()
    assert corporate.asked[0] == (f"{DEEPSEEK.host}:443", expected)
    assert conversation.requests[-1].verdicts == ["exact"]


def test_the_password_of_that_proxy_is_on_no_command_line(home: Home, corporate: Corporate) -> None:
    if not Path("/proc/self/cmdline").exists():
        pytest.skip("there is no /proc here")
    code = """
import pathlib
lines = []
for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
    try:
        lines.append(path.read_bytes())
    except OSError:
        pass
print(any(b"s3cr3t" + b"word" in line for line in lines), any(b"--attached" in line for line in lines))
"""
    variables = {"HTTPS_PROXY": f"http://me:s3cr3tword@127.0.0.1:{corporate.port}"}
    assert home.run("exec", sys.executable, "-c", code, **variables).stdout == "False True\n"


def test_our_own_address_set_by_hand_is_no_upstream(home: Home, conversation: Simulator) -> None:
    home.configure(listen_port="1")
    variables = {"HTTPS_PROXY": "http://127.0.0.1:1", "HTTP_PROXY": "http://localhost:1/"}
    result = home.run("exec", sys.executable, "-c", filled(PYTHON_CLIENT), **variables)
    assert result.stdout == "21 °C and dry.\n", result.stderr


def test_a_socks_upstream_is_refused_with_the_reason(home: Home) -> None:
    result = home.run("exec", "--", "true", ALL_PROXY="socks5://127.0.0.1:1")
    assert result.returncode == 125
    assert "ALL_PROXY names a socks5 proxy" in result.stderr


def test_local_servers_are_reached_directly(home: Home, corporate: Corporate) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed here")
    home.run("exec", "--", curl, "-sS", "-m", "5", f"http://127.0.0.1:{corporate.port}/x")
    assert corporate.asked == [("/x", "")], "the path alone: no proxy stood between"


def test_what_is_wrong_with_the_ca_is_said(home: Home) -> None:
    home.run("env")
    own = '[[provider]]\nname = "mine"\nhosts = ["llm.example.internal"]\n'
    (home.confdir / "providers.toml").write_text(own)
    for words in (("exec", "--", "true"), ("env", "--json")):
        assert "llm.example.internal" in home.run(*words).stderr, words


def test_the_log_is_the_persons_alone(home: Home) -> None:
    home.run("exec", "--", "true")
    log = home.folder / ".local" / "state" / "reasoning-fix" / "log" / "exec.log"
    assert log.stat().st_mode & 0o077 == 0
