"""The audit against the simulator in each provider's guise: what it finds is what the table says.

The command runs as a person runs it, through a door that leads every name to the simulator.
"""

import _thread
import http.server
import itertools
import json
import signal
import threading
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from reasoning_fix.cli import main
from reasoning_fix.diagnosis.audit import verdict
from reasoning_fix.diagnosis.audit.asking import Asker, NoAnswer, Reply, said
from reasoning_fix.diagnosis.audit.checklist import EMPTY, SPACE, WORDS, Findings, most_requests
from reasoning_fix.diagnosis.audit.spelling import TAGS
from reasoning_fix.diagnosis.audit.targets import Target, TargetError, find, usual_path
from reasoning_fix.providers.files import read
from reasoning_fix.providers.rows import ProviderRow, Rule
from reasoning_fix.providers.table import BUILT_IN, Table, load_table
from tests.conftest import StartProxy
from tests.mitmdump import raw_post, tunnel
from tests.provider.providers import (
    DASHSCOPE,
    DEEPSEEK,
    GLM,
    GO,
    GROQ,
    KIMI,
    MIMO,
    MINIMAX,
    OPENROUTER,
    SILICONFLOW,
    VLLM,
    Provider,
)
from tests.provider.refusals import Asked
from tests.provider.simulator import Simulator
from tests.provider.turns import Answer, Call, Dialect, Part, Text, Thought

KEY = "sk-0123456789abcdef-audit"
_DIALECTS: dict[Dialect, str] = {"chat": "chat_completions", "messages": "messages", "responses": "responses"}


def thinker() -> Callable[[Asked], Answer]:
    """A model that thinks unless it is told not to, and calls a tool when it is asked to."""
    numbers = itertools.count()

    def answer(asked: Asked) -> Answer:
        # M2 thinks whatever it is told: https://platform.minimax.io/docs/api-reference/text-openai-api
        thinks = asked.thinking or "M2" in asked.model
        parts: list[Part] = [Thought(f"Thought number {next(numbers)}.")] if thinks else []
        last = (asked.body.get("messages") or asked.body["input"])[-1]
        asks = last.get("role") == "user" and isinstance(last["content"], str)
        if asked.body.get("tools") and asks and "get_weather" in last["content"]:
            parts.append(Call(f"call_00_{next(numbers):016x}", "get_weather", '{"city":"Oslo"}'))
        else:
            parts.append(Text("0.05, I think."))
        return Answer(tuple(parts))

    return answer


class Auditor:
    """Runs the command, against the simulator."""

    def __init__(self, simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
        self.simulator = simulator
        self.capsys = capsys
        self.err = ""

    def words(self, name: str, model: str, *more: str) -> list[str]:
        return ["audit", name, "--model", model, "--ca", str(self.simulator.ca), "--yes", *more]

    def run(self, name: str, model: str, *more: str) -> tuple[int, str]:
        try:
            code = main(self.words(name, model, *more))
        except SystemExit as ended:
            code = int(str(ended.code))
        output = self.capsys.readouterr()
        self.err = output.err
        assert KEY not in output.out + output.err
        return code, output.out

    def found(self, name: str, model: str, *more: str) -> dict[str, Any]:
        code, output = self.run(name, model, "--json", *more)
        assert (code, self.err) == (0, "")
        return dict(json.loads(output))

    def outcomes(self, shown: dict[str, Any]) -> dict[str, str]:
        return {check["name"]: check["outcome"] for check in shown["checks"]}


@pytest.fixture
def auditor(
    provider: Simulator,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[Auditor]:
    provider.improvise = thinker()
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "ALL_PROXY", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", tunnel(provider))
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    for name in ("DEEPSEEK", "MOONSHOT", "ZAI", "MIMO", "MINIMAX", "OPENROUTER", "OPENCODE", "SILICONFLOW"):
        monkeypatch.setenv(f"{name}_API_KEY", KEY)
    monkeypatch.setenv("GROQ_API_KEY", KEY)
    monkeypatch.setenv("DASHSCOPE_API_KEY", KEY)
    yield Auditor(provider, capsys)


@pytest.fixture(scope="module")
def table() -> Table:
    return load_table()


def told(shown: dict[str, Any], target: Target, table: Table, tmp_path: Path) -> tuple[Rule, Rule]:
    """The rule that the audit's TOML gives the model once it is loaded, and the built-in one."""
    path = tmp_path / "found.toml"
    path.write_text(shown["toml"])
    own = load_table(path).provider(target.host)
    assert own is not None
    new = own.rule(target.model, target.dialect)
    assert new.models == shown["rule"]["models"]
    return new, target.provider.rule(target.model, target.dialect)


def switch(table: Table, target: Target, rule: Rule) -> str:
    found = table.off_switch(target.endpoint, rule)
    return found.name if found is not None else ""


# --- each provider's guise ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("guise", "dialect", "model"),
    [
        (DEEPSEEK, "chat", "deepseek-flash"),
        (DEEPSEEK, "messages", "deepseek-v4-pro"),
        (DEEPSEEK, "responses", "deepseek-flash"),
        (KIMI, "chat", "kimi-k2.6"),
        (KIMI, "chat", "kimi-k2.7-code"),
        (KIMI, "messages", "kimi-k2.6"),
        (GLM, "chat", "glm-5.3-flash"),
        (GLM, "chat", "glm-4.7"),
        (GLM, "messages", "glm-4.7"),
        (MIMO, "chat", "mimo-v2.5-pro"),
        (MIMO, "messages", "mimo-v2.5-pro"),
        (MINIMAX, "chat", "MiniMax-M2.7"),
        (MINIMAX, "chat", "MiniMax-M3"),
        (MINIMAX, "messages", "MiniMax-M2.7"),
        (OPENROUTER, "chat", "moonshotai/kimi-k2.6"),
        (OPENROUTER, "chat", "deepseek/deepseek-v4-pro"),
        (OPENROUTER, "messages", "moonshotai/kimi-k2.6"),
        (OPENROUTER, "responses", "deepseek/deepseek-v4-pro"),
        (GO, "chat", "deepseek-v4-pro"),
        (SILICONFLOW, "chat", "Pro/moonshotai/Kimi-K2.5"),
        (DASHSCOPE, "chat", "deepseek-v4-pro"),
        (GROQ, "chat", "moonshotai/kimi-k2.6"),
    ],
    ids=lambda value: value.name if isinstance(value, Provider) else value,
)
def test_what_it_finds_is_what_the_table_says(
    auditor: Auditor, table: Table, tmp_path: Path, guise: Provider, dialect: Dialect, model: str
) -> None:
    target = find(table, guise.host, model, _DIALECTS[dialect], "")  # type: ignore[arg-type]
    shown = auditor.found(guise.host, model, "--dialect", _DIALECTS[dialect])
    new, old = told(shown, target, table, tmp_path)
    for column in ("name", "required", "placeholder", "known_empty", "thinks", "forbidden"):
        assert getattr(new, column) == getattr(old, column), column
    if dialect != "messages" or guise is not OPENROUTER:  # there the simulator has another switch
        assert switch(table, target, new) == switch(table, target, old)
        assert shown["differences"] == []
    assert shown["requests"] == len(auditor.simulator.requests) <= most_requests(table, target)
    assert shown["tokens"]["prompt"] == 64 * auditor.simulator.statuses().count(200)
    # On the messages wire only Kimi says how much of it was thought.
    assert shown["tokens"]["thought"] > 0 or (dialect == "messages" and guise is not KIMI)
    outcomes = auditor.outcomes(shown)
    assert outcomes["thinks by default"] == "yes"
    assert outcomes["tool turn, its own reasoning"] == "accepted"
    assert outcomes["streamed"] == outcomes["three turns, all reasoning kept"] == "accepted"
    assert any(request.json.get("stream") for request in auditor.simulator.requests)


def test_other_rules_of_the_provider_stay(auditor: Auditor, table: Table, tmp_path: Path) -> None:
    target = find(table, "deepseek", "deepseek-flash", "chat_completions", "")
    shown = auditor.found("deepseek", "deepseek-flash")
    told(shown, target, table, tmp_path)
    own = load_table(tmp_path / "found.toml").provider("api.deepseek.com")
    before = table.provider("api.deepseek.com")
    assert own is not None and before is not None
    assert own.rules[1 : len(before.rules) + 1] == before.rules
    assert (own.endpoints, own.hosts, own.maker, own.null_content) == (
        before.endpoints,
        before.hosts,
        before.maker,
        before.null_content,
    )


@pytest.mark.parametrize(
    ("settings", "required", "placeholder", "refuses"),
    [
        ({"demand": "nothing"}, "never", None, []),
        # The table's "." is not asked about, so its word stands.
        ({"demand": "calls"}, "tool_calls", " ", ["."]),
        ({"demand": "every"}, "always", " ", ["."]),
        ({"demand": "every", "refuses": ("",)}, "always", " ", ["", "."]),
        (
            {"demand": "every", "refuses": ("", " ")},
            "always",
            "[reasoning not on record {turn}]",
            ["", " ", "."],
        ),
        ({"relay": True}, "with_tools", " ", ["."]),
        ({"old_text": True}, "with_tools", " ", ["."]),
    ],
)
def test_a_host_that_is_looser_or_stricter_than_its_rule(
    auditor: Auditor, settings: dict[str, Any], required: str, placeholder: str | None, refuses: list[str]
) -> None:
    for name, value in settings.items():
        setattr(auditor.simulator.settings["api.deepseek.com"], name, value)
    rule = auditor.found("deepseek", "deepseek-flash")["rule"]
    assert (rule["required"], rule["placeholder"], rule["refuses"]) == (required, placeholder, refuses)


def test_a_gateway_that_hides_the_reason(auditor: Auditor) -> None:
    auditor.simulator.settings["opencode.ai"].opaque = True
    shown = auditor.found("opencode", "deepseek-v4-pro")
    assert shown["rule"]["required"] == "with_tools"
    notes = [check["note"] for check in shown["checks"] if check["outcome"] == "refused"]
    assert any("Upstream request failed" in note for note in notes)


def test_a_table_that_is_wrong_is_said(auditor: Auditor) -> None:
    auditor.simulator.settings["api.z.ai"].demand = "calls"
    code, output = auditor.run("api.z.ai", "glm-4.7")
    assert code == 0
    assert "This is not what the table says:" in output
    assert "  required: 'never' in the table, 'tool_calls' here" in output


def test_a_host_that_is_in_no_table(
    auditor: Auditor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its field, its path and its switch are found; the rule is loaded and says so."""
    monkeypatch.setenv("LLM_EXAMPLE_NET_API_KEY", KEY)
    auditor.simulator.settings["llm.example.net"].demand = "calls"
    path = tmp_path / "own" / "providers.toml"
    words = ("--base-url", "https://llm.example.net/v1", "--write", str(path))
    code, output = auditor.run(VLLM.host, VLLM.model, *words)
    assert code == 0 and f"The rule is in {path}." in output
    own = load_table(path)
    host = own.provider("llm.example.net")
    assert host is not None
    endpoint = own.endpoint(host, "POST", "/v1/chat/completions")
    assert endpoint is not None
    rule = host.rule(VLLM.model)
    assert (rule.required, rule.placeholder, rule.off) == ("tool_calls", " ", "template_enable_thinking")
    assert host.reads == ("reasoning", "reasoning_content")


def test_a_model_that_never_thinks(auditor: Auditor) -> None:
    auditor.simulator.improvise = lambda asked: Answer((Text("0.05."),))
    shown = auditor.found("openrouter", "somebody/plain-1")
    assert shown["rule"]["thinks"] == "no" and shown["rule"]["required"] == "never"
    assert shown["requests"] == 4


def test_a_model_that_thinks_when_it_is_asked_to(auditor: Auditor) -> None:
    model = thinker()

    def answer(asked: Asked) -> Answer:
        found = model(asked)
        on = asked.body.get("reasoning") == {"enabled": True}
        return found if on else Answer(found.parts[1:])

    auditor.simulator.improvise = answer
    shown = auditor.found("openrouter", "moonshotai/kimi-k2.6")
    outcomes = auditor.outcomes(shown)
    assert outcomes["thinks by default"] == "no"
    assert outcomes["thinks when asked to"].startswith('yes, by {"reasoning":{"enabled":true}}')
    assert (shown["rule"]["required"], shown["rule"]["thinks"]) == ("tool_calls", "yes")


def test_a_model_that_calls_no_tool(auditor: Auditor) -> None:
    auditor.simulator.improvise = lambda asked: Answer((Thought("Hm."), Text("0.05.")))
    shown = auditor.found("kimi", "kimi-k2.6")
    assert auditor.outcomes(shown)["calls a tool"] == "no"
    assert shown["rule"]["required"] == "tool_calls"


def test_a_field_that_is_refused(auditor: Auditor) -> None:
    auditor.simulator.settings["api.deepseek.com"].forbids = ("reasoning_content",)
    rule = auditor.found("deepseek", "deepseek-flash")["rule"]
    assert rule["forbidden"] is True


def test_a_model_that_thinks_in_tags(auditor: Auditor) -> None:
    """Its reasoning is in the content, where no field stands for it; clients that clean it lose it."""
    model = thinker()

    def answer(asked: Asked) -> Answer:
        found = model(asked).parts
        thought = "".join(f"<think>{part.text}</think>" for part in found if isinstance(part, Thought))
        said = "".join(part.text for part in found if isinstance(part, Text))
        return Answer((Text(thought + said), *(part for part in found if isinstance(part, Call))))

    auditor.simulator.improvise = answer
    shown = auditor.found("openrouter", "somebody/tagged-1")
    (first,) = (check for check in shown["checks"] if check["name"] == "thinks by default")
    assert (first["outcome"], first["note"]) == ("yes", "in <think> in the content")
    assert shown["rule"]["required"] == "never"
    asked = [name for name in auditor.outcomes(shown) if name.startswith("tool turn, ")]
    assert "tool turn, absent" in asked
    assert not {f"tool turn, {name}" for name in (EMPTY, SPACE, WORDS)} & set(asked)


def failing_at(auditor: Auditor, number: int, status: int, body: bytes) -> None:
    """Let the request after this many be answered so; the others think."""
    model = thinker()
    count = itertools.count(1)

    def answer(asked: Asked) -> Answer:
        if next(count) == number:
            auditor.simulator.answer_raw(status, [("content-type", "application/json")], [body])
        return model(asked)

    auditor.simulator.improvise = answer


def test_nothing_is_concluded_where_the_models_own_turn_is_refused(auditor: Auditor) -> None:
    failing_at(auditor, 2, 400, b'{"error":{"message":"No."}}')
    code, output = auditor.run("deepseek", "deepseek-flash")
    assert code == 1 and "[[provider]]" not in output
    assert "a turn was refused with its own reasoning: nothing more can be concluded." in auditor.err
    assert len(auditor.simulator.requests) == 3


def test_a_turn_whose_answer_cannot_be_read_ends_the_longer_conversation(auditor: Auditor) -> None:
    failing_at(auditor, 2, 200, b'{"choices":[]}')
    shown = auditor.found("deepseek", "deepseek-flash")
    assert "streamed" not in auditor.outcomes(shown)
    assert not any(request.json.get("stream") for request in auditor.simulator.requests)
    assert shown["rule"]["required"] == "with_tools"


def test_a_stream_that_fails_is_said_and_the_rest_is_asked(auditor: Auditor) -> None:
    failing_at(auditor, 3, 503, b"busy")
    shown = auditor.found("deepseek", "deepseek-flash")
    outcomes = auditor.outcomes(shown)
    assert outcomes["streamed"] == "failed" and "three turns, all reasoning kept" not in outcomes
    assert shown["rule"]["required"] == "with_tools"


# --- what is sent -------------------------------------------------------------------------------------------


def test_what_lacks_reasoning_was_never_said_before(auditor: Auditor) -> None:
    """A server that still holds what it said would not miss it."""
    auditor.found("deepseek", "deepseek-flash")
    for request in auditor.simulator.requests:
        assert set(request.verdicts) <= {"exact", "unknown"}
    kept = [request for request in auditor.simulator.requests if "exact" in request.verdicts]
    assert max(len(request.verdicts) for request in kept) == 3


def test_the_key_goes_where_it_belongs(auditor: Auditor) -> None:
    auditor.found("kimi", "kimi-k2.6", "--dialect", "messages")
    for request in auditor.simulator.requests:
        assert request.headers["authorization"] == f"Bearer {KEY}"
        assert request.headers["x-api-key"] == KEY
        assert request.headers["anthropic-version"]
        assert KEY.encode() not in request.body


def test_no_key(auditor: Auditor) -> None:
    auditor.found("kimi", "kimi-k2.6", "--no-key")
    assert all("authorization" not in request.headers for request in auditor.simulator.requests)


@pytest.mark.parametrize("dialect", list(_DIALECTS.values()))
def test_a_dry_run_sends_nothing_and_shows_everything(
    auditor: Auditor, monkeypatch: pytest.MonkeyPatch, dialect: str
) -> None:
    real = auditor.found("deepseek", "deepseek-flash", "--dialect", dialect)
    auditor.simulator.requests.clear()
    monkeypatch.delenv("DEEPSEEK_API_KEY")
    code, output = auditor.run("deepseek", "deepseek-flash", "--dialect", dialect, "--dry-run")
    assert code == 0 and auditor.simulator.requests == []
    assert "# authorization: Bearer $DEEPSEEK_API_KEY" in output
    bodies = [part for part in output.split("\n# ") if "{" in part]
    sent = sum(part.count('"model": "deepseek-flash"') for part in bodies)
    # The made-up model always thinks, so that no switch turns it off.
    assert sent == real["requests"] - 1
    for part in bodies:
        json.loads(part[part.index("{") : part.rindex("}") + 1])


# --- what goes wrong ----------------------------------------------------------------------------------------


def envelope(text: str) -> bytes:
    return json.dumps({"error": {"message": text, "type": "x"}}).encode()


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        pytest.param(
            401,
            envelope(f"Incorrect API key: {KEY}"),
            "api.deepseek.com refused the key (401: Incorrect API key: ...).",
            id="a wrong key",
        ),
        pytest.param(403, envelope("No"), "api.deepseek.com refused the key (403: No).", id="a barred key"),
        pytest.param(
            402,
            envelope("Insufficient Balance"),
            "api.deepseek.com wants to be paid first (Insufficient Balance).",
            id="no money",
        ),
        pytest.param(
            400,
            envelope("The supported API model names are a and b."),
            "api.deepseek.com refused a plain request (400: The supported API model names are a and b.). Is "
            "'deepseek-flash' the name of a model there?",
            id="an unknown model",
        ),
        pytest.param(
            404,
            b"<html><h1>Not\x1b[2J found</h1></html>",
            "refused a plain request (404: Not [2J found). Is 'deepseek-flash' the name",
            id="another path",
        ),
        pytest.param(
            301,
            b"",
            "https://api.deepseek.com/v1/chat/completions gave no chat_completions answer",
            id="moved",
        ),
        pytest.param(
            200,
            b"<html>Welcome to the hotel</html>",
            "gave no chat_completions answer that can be read (status 200).",
            id="a page",
        ),
        pytest.param(
            500, envelope("Oh"), "gave no chat_completions answer that can be read (500: Oh)", id="500"
        ),
    ],
)
def test_refusals_at_the_first_request(auditor: Auditor, status: int, body: bytes, said: str) -> None:
    headers = [("content-type", "application/json"), ("location", "https://files.example.org/")]
    auditor.simulator.answer_raw(status, headers, [body])
    code, output = auditor.run("deepseek", "deepseek-flash")
    assert code == 1
    assert said in auditor.err and auditor.err.count("\n") == 1 and auditor.err.isascii()
    assert "\n1 request: 0 tokens of prompts" in output
    assert len(auditor.simulator.requests) == 1


class _Barred(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(401)
        self.end_headers()
        self.wfile.write(envelope(f"No {self.path}"))

    def log_message(self, *_: object) -> None:
        pass


def test_a_server_without_tls(auditor: Auditor) -> None:
    """Somebody's own, by its address: it is asked, and the person is warned of the open key."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Barred) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}/v1"
        code, output = auditor.run("127.0.0.1", "m", "--base-url", base, "--key-env", "DEEPSEEK_API_KEY")
        server.shutdown()
    assert code == 1 and "127.0.0.1 refused the key (401: No /v1/chat/completions)." in auditor.err
    assert "Mind that the key travels unencrypted there." in output


def test_a_rate_limit_is_waited_for(auditor: Auditor, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("reasoning_fix.diagnosis.audit.asking.time.sleep", waited.append)
    monkeypatch.setattr(
        Asker.__init__, "__kwdefaults__", dict(Asker.__init__.__kwdefaults__ or {}) | {"sleep": waited.append}
    )
    limited = [("content-type", "application/json"), ("retry-after", "7")]
    auditor.simulator.answer_raw(429, limited, [envelope("Slow down")])
    code, output = auditor.run("deepseek", "deepseek-flash")
    assert code == 0 and waited == [7.0]
    assert "(rate limit: going on in 7 seconds)" in output


@pytest.mark.parametrize("after", ["1", "86400", ""])
def test_a_rate_limit_that_lasts(auditor: Auditor, monkeypatch: pytest.MonkeyPatch, after: str) -> None:
    monkeypatch.setattr(
        Asker.__init__,
        "__kwdefaults__",
        dict(Asker.__init__.__kwdefaults__ or {}) | {"sleep": lambda seconds: None},
    )
    limited = [("content-type", "application/json"), ("retry-after", after)]
    for _ in range(3):
        auditor.simulator.answer_raw(429, limited, [envelope("Slow down")])
    code, _ = auditor.run("deepseek", "deepseek-flash")
    assert code == 1
    assert "api.deepseek.com limits the rate (Slow down); try again later, or with --pause" in auditor.err
    assert len(auditor.simulator.requests) == (1 if after == "86400" else 3)


def test_failures_in_the_middle_are_left_open(auditor: Auditor) -> None:
    """One request fails: its line says so, and the rest is asked all the same."""
    model = thinker()
    count = itertools.count()

    def answer(asked: Asked) -> Answer:
        if next(count) == 5:
            auditor.simulator.answer_raw(503, [("content-type", "text/plain")], [b"busy"])
        return model(asked)

    auditor.simulator.improvise = answer
    shown = auditor.found("deepseek", "deepseek-flash")
    assert "failed" in auditor.outcomes(shown).values()
    assert shown["rule"]["required"] == "with_tools"


def test_a_server_that_goes_on_failing(auditor: Auditor) -> None:
    model = thinker()
    count = itertools.count()

    def answer(asked: Asked) -> Answer:
        if next(count) == 5:
            for _ in range(20):
                auditor.simulator.answer_raw(503, [("content-type", "text/plain")], [b"busy"])
        return model(asked)

    auditor.simulator.improvise = answer
    code, output = auditor.run("deepseek", "deepseek-flash")
    assert code == 1 and "[[provider]]" not in output
    assert "api.deepseek.com failed 3 times in a row (503: busy)." in auditor.err
    assert auditor.simulator.statuses().count(503) == 3


def test_a_time_out(auditor: Auditor) -> None:
    auditor.simulator.answer_raw(200, [("content-type", "application/json")], [b"\n"], hold_open=5)
    code, _ = auditor.run("deepseek", "deepseek-flash", "--timeout", "0.3")
    assert code == 1
    assert "api.deepseek.com did not answer within 0.3 seconds; --timeout gives it longer." in auditor.err


def test_a_stream_that_stays_open_after_its_end(auditor: Auditor) -> None:
    model = thinker()

    def answer(asked: Asked) -> Answer:
        found = model(asked)
        return Answer(found.parts, hold_open=30) if asked.body.get("stream") else found

    auditor.simulator.improvise = answer
    shown = auditor.found("deepseek", "deepseek-flash", "--timeout", "5")
    assert auditor.outcomes(shown)["streamed"] == "accepted"


def test_a_certificate_nobody_vouches_for(auditor: Auditor) -> None:
    code = main(["audit", "deepseek", "--model", "deepseek-flash", "--yes"])
    assert code == 1
    err = auditor.capsys.readouterr().err
    assert "the certificate of api.deepseek.com is not trusted here" in err and "--ca FILE" in err


def test_a_host_that_cannot_be_reached(auditor: Auditor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    code, _ = auditor.run("deepseek", "deepseek-flash")
    assert code == 1 and "api.deepseek.com cannot be reached: Connection refused." in auditor.err


def test_a_proxy_that_repairs_would_spoil_it(
    auditor: Auditor, start_proxy: StartProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = start_proxy()
    monkeypatch.setenv("https_proxy", proxy.url)
    raw_post(proxy, "api.deepseek.com", "/chat/completions", b"{}")  # makes its CA
    auditor.simulator.requests.clear()
    code = main(["audit", "deepseek", "--model", "m", "--yes", "--ca", str(proxy.ca)])
    assert code == 1 and auditor.simulator.requests == []
    err = auditor.capsys.readouterr().err
    assert "a mitmproxy proxy stands between here and api.deepseek.com" in err and "env -u HTTPS_PROXY" in err


def test_an_interruption(auditor: Auditor) -> None:
    model = thinker()
    count = itertools.count()

    def answer(asked: Asked) -> Answer:
        if next(count) == 3:
            _thread.interrupt_main()
        return model(asked)

    auditor.simulator.improvise = answer
    # A shell that runs the tests in the background has SIGINT ignored in them.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code, output = auditor.run("deepseek", "deepseek-flash")
    finally:
        signal.signal(signal.SIGINT, before)
    assert code == 130 and "interrupted." in auditor.err
    assert "thinks by default" in output and "[[provider]]" not in output and "requests: " in output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nobody", "--model", "m"], "'nobody' is no provider or host of the table (cerebras, "),
        (
            ["nvidia", "--model", "m", "--dialect", "responses"],
            "nvidia does not speak responses; it speaks chat",
        ),
        (
            ["deepseek", "--model", "m", "--base-url", "ftp://x"],
            "--base-url: 'ftp://x' was given; expected a URL",
        ),
        (
            ["deepseek", "--model", "m", "--key-env", "NO_SUCH"],
            "no key: the environment variable NO_SUCH is not",
        ),
        (
            ["deepseek", "--model", "m", "--ca", "/nowhere.pem"],
            "--ca /nowhere.pem: No such file or directory.",
        ),
        (["deepseek", "--model", "m"], "nothing was sent: this costs tokens. Give --yes"),
        (["deepseek", "--model", "m", "--timeout", "0"], "'0' was given; a number of seconds up to 3600"),
        (["deepseek"], "the following arguments are required: --model"),
        (
            ["deepseek", "--model", "m", "--user-providers", "/nowhere.toml"],
            "/nowhere.toml, line 1: cannot be",
        ),
    ],
)
def test_used_wrongly(auditor: Auditor, words: list[str], said: str) -> None:
    try:
        code: object = main(["audit", *words])
    except SystemExit as ended:
        code = ended.code
    assert code == 2 and said in auditor.capsys.readouterr().err
    assert auditor.simulator.requests == []


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("yes ", 0), ("n", 2), ("", 2)])
def test_it_asks_before_it_spends(
    auditor: Auditor, monkeypatch: pytest.MonkeyPatch, answer: str, code: int
) -> None:
    asked: list[str] = []

    def reply(question: str) -> str:
        asked.append(question)
        return answer

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", reply)
    words = auditor.words("deepseek", "deepseek-flash")
    words.remove("--yes")
    assert main(words) == code
    assert bool(auditor.simulator.requests) == (code == 0)
    assert "Send up to 33 requests to api.deepseek.com with the key in DEEPSEEK_API_KEY?" in asked[0]


def test_a_key_that_no_header_carries(auditor: Auditor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPSEEK_API_KEY", "sk-å\n1")
    assert auditor.run("deepseek", "deepseek-flash")[0] == 2
    assert "holds characters that no header can carry" in auditor.err


# --- the file -----------------------------------------------------------------------------------------------


def test_the_rule_goes_after_what_is_there(auditor: Auditor, tmp_path: Path) -> None:
    path = tmp_path / "providers.toml"
    path.write_text('# mine\n[[provider]]\nname = "mine"\nhosts = ["llm.example.com"]\n')
    assert auditor.run("deepseek", "deepseek-flash", "--write", str(path))[0] == 0
    text = path.read_text()
    assert text.startswith("# mine\n") and text.count("[[provider]]") == 2
    assert [row["name"] for row in tomllib.loads(text)["provider"]] == ["mine", "deepseek"]
    # The same again would contradict it: nothing is written.
    assert auditor.run("deepseek", "deepseek-flash", "--write", str(path))[0] == 1
    assert "was left as it is" in auditor.err and path.read_text() == text
    assert sorted(found.name for found in tmp_path.glob("*.toml")) == ["providers.toml"]
    assert list(tmp_path.glob(".*.toml")) == []


def test_a_file_that_cannot_be_written(auditor: Auditor, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert auditor.run("deepseek", "deepseek-flash", "--write", str(tmp_path / "file" / "x.toml"))[0] == 1
    assert "cannot be written" in auditor.err


def test_every_built_in_row_can_be_spelled(tmp_path: Path, table: Table) -> None:
    for row in read(BUILT_IN, frozenset()).provider:
        path = tmp_path / f"{row.name}.toml"
        path.write_text(verdict.toml_of(row))
        switches = frozenset(found.name for found in table.off_switches)
        assert read(path, switches).provider == (row,)


@pytest.mark.parametrize(
    "text", ["it's", 'a "b"', "a\\b", "it's a\\b", "a\nb\t\x00", "é 模型", "", "'''", "^k2\\.6$", "\x7f"]
)
def test_any_text_survives_its_spelling(text: str) -> None:
    row = ProviderRow("x", ("x.example",), title=text, rules=(Rule(models=text, refuses=(text,)),))
    (found,) = tomllib.loads(verdict.toml_of(row))["provider"]
    assert found.get("title", "") == found["rule"][0].get("models", "") == text
    assert found["rule"][0]["refuses"] == [text]


# --- parts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("(/v1|/beta)?/chat/completions", "/v1/chat/completions"),
        ("(/coding)?/v1/chat/completions", "/v1/chat/completions"),
        ("(/anthropic|/coding)/v1/messages", "/anthropic/v1/messages"),
        (r"/v2\.1/responses", "/v2.1/responses"),
        (".*/chat/completions", "/v1/chat/completions"),
        (".*/v1/messages", "/v1/messages"),
    ],
)
def test_the_usual_path(pattern: str, expected: str) -> None:
    assert usual_path(pattern) == expected


@pytest.mark.parametrize(
    ("dialect", "base", "expected"),
    [
        ("chat_completions", "https://x.example", "https://x.example/chat/completions"),
        ("chat_completions", "https://x.example/v1/", "https://x.example/v1/chat/completions"),
        ("chat_completions", "http://[::1]:80/v1/chat/completions", "http://[::1]:80/v1/chat/completions"),
        ("messages", "https://x.example/anthropic", "https://x.example/anthropic/v1/messages"),
        ("messages", "https://x.example/anthropic/v1", "https://x.example/anthropic/v1/messages"),
        ("responses", "https://x.example/v1", "https://x.example/v1/responses"),
    ],
)
def test_base_urls_as_clients_are_given_them(table: Table, dialect: Any, base: str, expected: str) -> None:
    assert find(table, "x.example", "m", dialect, base).url == expected


def test_every_endpoint_of_the_table_has_a_url(table: Table) -> None:
    for provider in set(table.by_host.values()):
        for endpoint in provider.endpoints:
            if provider.hosts[0].startswith("*."):
                continue
            try:
                target = find(table, provider.name, "m", endpoint.dialect, "")
            except TargetError as error:
                raise AssertionError(provider.name) from error
            assert table.endpoint(provider, "POST", urlsplit(target.url).path) is not None


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"error":{"message":"No","type":"x"}}', "No"),
        (b'data:{"error":{"code":"400","message":"Param Incorrect","param":"the reason"}}', "the reason"),
        (b'{"code":20015,"message":"No","data":null}', "No"),
        (b'{"error":"No"}', "No"),
        (b'{"error":{"message":"Upstream","metadata":{"raw":"{\\"message\\":\\"No\\"}"}}}', "No"),
        (b'{"error":{"message":"Upstream","metadata":{"raw":"No"}}}', "No"),
        (b'{"error":{"message":"No","metadata":{"raw":null}}}', "No"),
        (b'{"detail":[{"msg":"No","type":"x"}]}', "No"),
        (b"No\r\n\x1b[31m luck", "No [31m luck"),
        (b"", ""),
        (b"\xff\xfe", "��"),
        (b"x" * 1000, "x" * 240 + "..."),
        (f'{{"error":{{"message":"{KEY} is wrong"}}}}'.encode(), "... is wrong"),
    ],
)
def test_what_a_reply_says(body: bytes, expected: str) -> None:
    assert said(Reply(400, body), KEY) == expected


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (Findings(thinks=False), ["the model does not reason: nothing is to be restored"]),
        (Findings(thinks=True, place="reasoning"), ["reasoning comes in reasoning"]),
        (
            Findings(thinks=True, place="reasoning", streamed_place="reasoning"),
            ["reasoning comes in reasoning"],
        ),
        (
            Findings(thinks=True, place="reasoning", streamed_place="reasoning_content"),
            ["reasoning comes in reasoning", "streamed, it comes in reasoning_content"],
        ),
        (
            Findings(thinks=True, place=TAGS),
            [
                "reasoning comes in <think> in the content",
                "clients that keep the content whole keep it, those that clean it lose it",
            ],
        ),
    ],
)
def test_what_came_of_it_in_words(found: Findings, expected: list[str]) -> None:
    assert verdict.summary(found) == expected


@pytest.mark.parametrize(
    ("switches", "off"),
    [
        ({}, "thinking"),
        ({"thinking": "failed", "effort": "off"}, "thinking"),
        ({"thinking": "off"}, "thinking"),
        ({"thinking": "still thinks", "effort": "off"}, "effort"),
        ({"thinking": "still thinks", "effort": "refused"}, ""),
    ],
)
def test_the_switch_is_the_one_that_works(table: Table, switches: dict[str, str], off: str) -> None:
    target = find(table, "deepseek", "deepseek-flash", "chat_completions", "")
    rule = verdict.rule_of(Findings(thinks=True, switches=switches), table, target, "https://x.example/")
    assert switch(table, target, rule) == off


def test_a_provider_of_the_persons_own_keeps_its_row(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text('[[provider]]\nname = "mine"\ntitle = "Mine"\nhosts = ["llm.mine.example"]\n')
    mine = load_table(own)
    target = find(mine, "mine", "m", "chat_completions", "")
    rule = verdict.rule_of(Findings(thinks=True), mine, target, "https://x.example/")
    row = verdict.row_of(rule, Findings(), target, own)
    assert (row.title, row.hosts, row.rules) == ("Mine", ("llm.mine.example",), (rule,))
    # A path that its row does not know comes before those that it does.
    other = find(mine, "mine", "m", "chat_completions", "https://llm.mine.example/api/chat/completions/")
    assert verdict.row_of(rule, Findings(), other, own).endpoints[0].path == other.endpoint.path


def test_rules_of_the_persons_own_that_point_at_a_family_are_written_out(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(
        '[[provider]]\nname = "mine"\nhosts = ["llm.mine.example"]\n'
        '[[provider.rule]]\nfamily = "kimi-k3"\nmodels = ""\n'
    )
    mine = load_table(own)
    target = find(mine, "mine", "m", "chat_completions", "")
    rule = verdict.rule_of(Findings(thinks=True), mine, target, "https://x.example/")
    found = tmp_path / "found.toml"
    found.write_text(verdict.toml_of(verdict.row_of(rule, Findings(), target, own)))
    assert "family" not in found.read_text()
    assert verdict.says_what_it_should(found.read_text(), rule, target)
    provider = load_table(found).provider("llm.mine.example")
    assert provider is not None and provider.rules[1:] == target.provider.rules


def test_which_url_is_meant_must_be_clear(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text('[[provider]]\nname = "mine"\nhosts = ["*.mine.example"]\n')
    table = load_table(own)
    with pytest.raises(TargetError, match="which URL of mine is meant is not clear; give --base-url"):
        find(table, "mine", "m", "chat_completions", "")
    assert find(table, "a.mine.example", "m", "chat_completions", "").host == "a.mine.example"


def test_a_server_without_a_key_gets_no_header_for_one(table: Table) -> None:
    target = find(table, "kimi", "m", "messages", "")
    assert {"authorization", "x-api-key"} <= target.headers(KEY).keys()
    assert not {"authorization", "x-api-key"} & target.headers("").keys()
    assert target.headers("")["anthropic-version"]


def test_never_more_requests_than_announced() -> None:
    asker = Asker(lambda body: Reply(429, b"", retry_after=0.0), most=5, sleep=lambda seconds: None)
    assert asker.ask(b"").status == 429
    with pytest.raises(NoAnswer, match="5 requests were sent, which is as many as were announced"):
        asker.ask(b"")
    assert asker.sent == 5
