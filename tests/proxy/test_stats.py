"""What is counted: figures of `usage`, names, the book and its file, and `stats` after real conversations."""

import asyncio
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mitmproxy import http
from mitmproxy.test import taddons, tflow, tutils

from reasoning_fix.cli import main
from reasoning_fix.engine import usage
from reasoning_fix.engine.usage import Usage
from reasoning_fix.proxy.interceptor import Interceptor
from reasoning_fix.proxy.stats import book, counts, tables
from reasoning_fix.proxy.stats.book import Book, Counts
from reasoning_fix.proxy.stats.counts import Count, Line
from tests.clients import Person, script_four_turns, through
from tests.conftest import StartProxy
from tests.conversations import Scene, call, tool, turn, user
from tests.mitmdump import Proxy, raw_post
from tests.provider.providers import GLM, KIMI, Provider
from tests.provider.simulator import DEEPSEEK, Simulator
from tests.provider.turns import Dialect

DAY = 86400.0
NOON = 1_795_000_000.0

# --- figures ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        pytest.param(b'{"choices":[],"usage":null}', None, id="no figures yet"),
        pytest.param(b'{"choices":[{"delta":{"content":"the usage: {1}"}}]}', None, id="only talked about"),
        pytest.param(b'{"usage":{"prompt_tokens":"many"}}', None, id="no numbers"),
        pytest.param(b'{"usage":{', None, id="cut"),
        pytest.param(
            b'{"usage":{"prompt_tokens":64,"completion_tokens":9,"prompt_cache_hit_tokens":48,'
            b'"prompt_cache_miss_tokens":16,"completion_tokens_details":{"reasoning_tokens":7}}}',
            Usage(64, 48, 9, 7),
            id="DeepSeek",
        ),
        pytest.param(
            b'{"usage" : {"prompt_tokens":64,"prompt_tokens_details":{"cached_tokens":32},'
            b'"completion_tokens":9,"completion_tokens_details":null}}',
            Usage(64, 32, 9, 0),
            id="OpenAI's way",
        ),
        pytest.param(
            b'{"choices":[{"index":0,"usage":{"prompt_tokens":64,"completion_tokens":9,"cached_tokens":16}}]}',
            Usage(64, 16, 9, 0),
            id="Kimi, in the choice",
        ),
        pytest.param(
            b'{"type":"message_start","message":{"usage":{"input_tokens":16,"cache_read_input_tokens":40,'
            b'"cache_creation_input_tokens":8,"output_tokens":1}}}',
            Usage(64, 40, 1, 0),
            id="Anthropic's, whose input leaves the cache out",
        ),
        pytest.param(
            b'{"type":"response.completed","response":{"usage":{"input_tokens":64,"output_tokens":9,'
            b'"input_tokens_details":{"cached_tokens":50},"output_tokens_details":{"reasoning_tokens":4}}}}',
            Usage(64, 50, 9, 4),
            id="Responses",
        ),
        pytest.param(
            b'{"usage":{"prompt_tokens":64,"completion_tokens":9,"cache_read_input_tokens":40}}',
            Usage(64, 40, 9, 0),
            id="a gateway's, which names the cache as Anthropic does",
        ),
        pytest.param(b'{"usage":{"prompt_tokens":-5,"cached_tokens":-1}}', Usage(), id="below zero"),
        pytest.param(
            b'{"usage":{"input_tokens":64,"cache_read_input_tokens":-4}}', Usage(64), id="a part below zero"
        ),
    ],
)
def test_figures_of_every_provider(payload: bytes, expected: Usage | None) -> None:
    assert usage.read(payload) == expected


def test_figures_that_come_again_are_not_added_up() -> None:
    start = Usage(prompt=64, cached=40, answer=1)
    later = start.with_later(Usage(answer=9, thought=4))
    assert later == later.with_later(Usage(64, 40, 9, 4)) == Usage(64, 40, 9, 4)


# --- names --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user_agent", "expected"),
    [
        ("opencode/1.2.3 ai-sdk/5.0 (linux; x64)", "opencode"),
        ("OpenAI/Python 2.8.1", "OpenAI/Python"),
        ("claude-cli/2.0.1 (external, cli)", "claude-cli"),
        ("(private) codex_cli_rs/0.5", "codex_cli_rs"),
        (
            "Mozilla/5.0 (Macintosh) AppleWebKit/537.36 (KHTML, like Gecko) Cursor/1.7 Chrome/138.0 Safari/5",
            "Cursor",
        ),
        ("Mozilla/5.0 (X11; Linux) Gecko/20100101 Firefox/140.0", "Mozilla"),
        ("", "unnamed"),
        ("\x1b[31mred", "other"),
        ("Bearer/1 sk-0123456789abcdef0123456789abcdef", "Bearer"),
        ("sk-0123456789abcdef0123456789abcdef", "other"),
        ("x" * 5000, "other"),
    ],
)
def test_only_the_product_of_a_user_agent_is_kept(user_agent: str, expected: str) -> None:
    assert counts.product(user_agent) == expected


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("moonshotai/kimi-k2.6", "moonshotai/kimi-k2.6"),
        ("m" * 101, "other"),
        ("", "other"),
        ("a\nb", "other"),
        ("\x1b[2J", "other"),
    ],
)
def test_a_models_name_is_short_and_plain(model: str, expected: str) -> None:
    assert counts.model_name(model) == expected


# --- the book -----------------------------------------------------------------------------------------------


def a_line(day: str = "2026-11-18", provider: str = "deepseek", model: str = "m", client: str = "c") -> Line:
    return Line(day, provider, model, client)


class Clock:
    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def quiet_book(path: Path | None, clock: Clock | None = None, keep_days: int = 30) -> Book:
    """One that writes only when it is told to."""
    return Book(path, keep_days=keep_days, clock=clock or Clock(), flush_seconds=1e6)


def test_what_was_written_and_what_waits_is_one(tmp_path: Path) -> None:
    kept = quiet_book(tmp_path / "deep" / "counts.sqlite3")
    kept.add(a_line(), {Count.REQUESTS: 2, Count.FILLED: 0})
    kept.flush()
    kept.add(a_line(), {Count.REQUESTS: 1})
    assert kept.counts() == {a_line(): Counter({Count.REQUESTS: 3})}
    assert book.read(tmp_path / "deep" / "counts.sqlite3") == {a_line(): Counter({Count.REQUESTS: 2})}
    kept.close()
    assert book.read(tmp_path / "deep" / "counts.sqlite3") == {a_line(): Counter({Count.REQUESTS: 3})}


def test_the_file_is_the_owners_alone(tmp_path: Path) -> None:
    kept = quiet_book(tmp_path / "deep" / "counts.sqlite3")
    kept.add(a_line(), {Count.REQUESTS: 2})
    kept.close()
    assert (tmp_path / "deep").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "deep" / "counts.sqlite3").stat().st_mode & 0o777 == 0o600


def test_without_a_path_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    kept = Book(None)
    kept.add(a_line(), {Count.REQUESTS: 2})
    kept.flush()
    assert kept.counts() == {a_line(): Counter({Count.REQUESTS: 2})}
    kept.close()
    assert list(tmp_path.iterdir()) == []


def test_several_processes_share_one_file(tmp_path: Path) -> None:
    path = tmp_path / "counts.sqlite3"
    program = textwrap.dedent("""
        import sys
        from pathlib import Path
        from reasoning_fix.proxy.stats.book import Book
        from reasoning_fix.proxy.stats.counts import Line
        kept = Book(Path(sys.argv[1]), flush_seconds=1e6)
        for _ in range(50):
            kept.add(Line("2026-11-18", "deepseek", "m", "c"), {"requests": 1})
            kept.flush()
        kept.close()
    """)
    running = [subprocess.Popen([sys.executable, "-c", program, str(path)]) for _ in range(3)]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert book.read(path) == {a_line(): Counter({"requests": 150})}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_sudden_end_loses_only_what_was_not_yet_written(tmp_path: Path) -> None:
    path = tmp_path / "counts.sqlite3"
    program = textwrap.dedent("""
        import os, signal, sys
        from pathlib import Path
        from reasoning_fix.proxy.stats.book import Book
        from reasoning_fix.proxy.stats.counts import Line
        kept = Book(Path(sys.argv[1]), flush_seconds=1e6)
        line = Line("2026-11-18", "deepseek", "m", "c")
        kept.add(line, {"requests": 7})
        kept.flush()
        kept.add(line, {"requests": 1})
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    assert subprocess.run([sys.executable, "-c", program, str(path)]).returncode == -signal.SIGKILL
    assert book.read(path) == {a_line(): Counter({"requests": 7})}


def test_it_writes_by_itself(tmp_path: Path) -> None:
    kept = Book(tmp_path / "counts.sqlite3", flush_seconds=0.0)
    kept.add(a_line(), {"requests": 7})
    assert kept._thread is not None
    for _ in range(2000):
        if (tmp_path / "counts.sqlite3").exists() and book.read(tmp_path / "counts.sqlite3"):
            break
        kept._thread.join(0.01)
    assert book.read(tmp_path / "counts.sqlite3") == {a_line(): Counter({"requests": 7})}
    kept.close()
    assert not kept._thread.is_alive()


@pytest.mark.parametrize("damage", [b"no database at all " * 100, b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_damaged_file_is_set_aside_with_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: bytes
) -> None:
    path = tmp_path / "counts.sqlite3"
    path.write_bytes(damage)
    kept = quiet_book(path)
    kept.add(a_line(), {"requests": 7})
    assert kept.counts() == {a_line(): Counter({"requests": 7})}
    kept.flush()
    kept.close()
    assert book.read(path) == {a_line(): Counter({"requests": 7})}
    assert [entry.getMessage() for entry in caplog.records if "is damaged" in entry.getMessage()]
    assert len(caplog.records) == 1
    assert [found.read_bytes() for found in tmp_path.glob("counts.sqlite3.corrupt-*")] == [damage]


def test_a_file_that_cannot_be_written_is_said_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "counts.sqlite3"
    path.mkdir()
    kept = quiet_book(path)
    for _ in range(3):
        kept.add(a_line(), {"requests": 1})
        kept.flush()
    assert len(caplog.records) == 1 and "they wait" in caplog.records[0].getMessage()
    assert kept.counts() == {a_line(): Counter({"requests": 3})}
    path.rmdir()
    kept.close()
    assert book.read(path) == {a_line(): Counter({"requests": 3})}


def test_a_file_that_another_process_holds_is_waited_for_in_silence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book, "_BUSY_SECONDS", 0.01)
    path = tmp_path / "counts.sqlite3"
    kept = quiet_book(path)
    kept.add(a_line(), {"requests": 1})
    kept.flush()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    kept.add(a_line(), {"requests": 1})
    kept.flush()
    other.execute("COMMIT")
    other.close()
    kept.close()
    assert book.read(path) == {a_line(): Counter({"requests": 2})}
    assert caplog.records == []


def test_a_newer_format_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "counts.sqlite3"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    before = path.read_bytes()
    kept = quiet_book(path)
    kept.add(a_line(), {"requests": 1})
    kept.close()
    assert path.read_bytes() == before


@pytest.mark.parametrize("in_file", [True, False])
def test_days_are_kept_as_long_as_turns(tmp_path: Path, in_file: bool) -> None:
    clock = Clock()
    kept = quiet_book(tmp_path / "counts.sqlite3" if in_file else None, clock, keep_days=3)
    days = []
    for _ in range(6):
        days.append(counts.day_of(clock()))
        kept.add(a_line(days[-1]), {"requests": 1})
        kept.flush()
        clock.now += DAY
    clock.now -= DAY
    assert sorted(line.day for line in kept.counts()) == days[-4:]
    assert sorted(line.day for line in kept.counts(2)) == days[-2:]
    kept.close()


def test_lines_that_wait_are_bounded(tmp_path: Path) -> None:
    kept = quiet_book(tmp_path / "counts.sqlite3")
    for number in range(5000):
        kept.add(a_line(model=f"m{number}", client=f"c{number}"), {"requests": 1})
    found = kept.counts()
    assert len(found) == book.MOST_LINES + 1
    assert tables.totals(found)["requests"] == 5000
    kept.close()


def test_the_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Earlier days make room; on one day, however many names come, the numbers are kept without them."""
    monkeypatch.setattr(book, "MOST_ROWS", 100)
    clock = Clock()
    kept = quiet_book(tmp_path / "counts.sqlite3", clock)
    yesterday = counts.day_of(clock() - DAY)
    kept.add(a_line(yesterday), {f"n{number}": 1 for number in range(99)})
    kept.flush()
    today = counts.day_of(clock())
    for number in range(300):
        kept.add(a_line(today, model=f"m{number}"), {"requests": 1})
        kept.flush()
    found = kept.counts()
    assert {line.day for line in found} == {today}
    assert tables.totals(found)["requests"] == 300
    assert len(found) <= 102
    kept.close()


# --- tables and bars ----------------------------------------------------------------------------------------


def some_counts() -> Counts:
    busy = Counter({"requests": 12, "recorded": 11, "restored: context": 20, "restored: tool-call id": 2})
    busy += Counter({"filled": 1, "refused: missing": 1, "repaired": 1, "lessons": 1, "added_bytes": 4321})
    busy += Counter({"avoided_refusals": 8, "prompt_tokens": 2000, "cached_tokens": 1500, "dropped": 9})
    return {
        a_line("2026-11-16", model="deepseek-flash", client="opencode"): busy,
        a_line("2026-11-18", "kimi", "kimi-k2.6", "curl"): Counter({"requests": 3, "kept": 2}),
    }


def test_a_person_reads_a_table() -> None:
    assert tables.report(some_counts()) == [
        "provider, model          requests  recorded  restored  filled  refused  repaired  cached",
        "deepseek deepseek-flash        12        11        22       1        1         1    75 %",
        "kimi kimi-k2.6                  3         0         0       0        0         0       -",
        "",
        "requests that would have been refused, and were answered: 9",
        "turns restored by: context 20, tool-call id 2",
        "refusals that came: missing 1",
        "lessons learned from them: 1",
        "added to requests: 4.3 kB",
        "tokens: 2,000 of prompts (1,500 from providers' caches), 0 of answers (0 thought)",
        "",
        "what clients did with reasoning (requests)  dropped it  blanked it  kept it",
        "curl                                                 0           0        2",
        "opencode                                             9           0        0",
    ]


@pytest.mark.parametrize(
    ("plain", "expected"),
    [
        (False, ["2026-11-16  ██████████ 12 (9)", "2026-11-17   0", "2026-11-18  ██▌ 3"]),
        (True, ["2026-11-16  ########## 12 (9)", "2026-11-17   0", "2026-11-18  ## 3"]),
    ],
)
def test_bars_per_day(plain: bool, expected: list[str]) -> None:
    head, *lines = tables.chart(some_counts(), width=10, plain=plain)
    assert head == "requests per day (and how many of them would have been refused)"
    assert lines == expected
    assert all(line.isascii() for line in lines) is plain


def test_every_day_with_requests_has_a_bar() -> None:
    little = {a_line("2026-11-16"): Counter({"requests": 100_000}), a_line(): Counter({"requests": 1})}
    assert tables.chart(little, width=10)[-1] == "2026-11-18  ▏ 1"
    assert tables.chart(little, width=10, plain=True)[-1] == "2026-11-18  # 1"
    assert tables.chart({}) == []


# --- what a report counts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "client", "demanded"),
    [
        pytest.param({}, {"dropped": 1}, 1, id="dropped"),
        pytest.param({"reasoning_content": None}, {"dropped": 1}, 1, id="null is dropped"),
        pytest.param({"reasoning_content": ""}, {"blanked": 1}, 1, id="blanked"),
        pytest.param({"reasoning_content": " "}, {"blanked": 1}, 0, id="blanked by what is accepted"),
        pytest.param({"reasoning_content": "R"}, {"kept": 1}, 0, id="kept"),
    ],
)
def test_what_clients_did(sent: dict[str, Any], client: dict[str, int], demanded: int) -> None:
    scene = Scene()
    said = turn("Let me look.", [call("call_00_abcdefgh")], reasoning_content="R")
    plain = scene.say([user("Weather?")], said)
    report = scene.restore([user("Weather?"), plain | sent, tool("call_00_abcdefgh", "mild")]).report
    assert (dict(report.client), report.demanded) == (client, demanded)


def test_a_turn_nobody_recorded_says_nothing_about_its_client() -> None:
    report = Scene().restore([user("Hi"), turn("Hello."), user("Go on")]).report
    assert (dict(report.client), report.demanded, report.filled) == ({}, 1, 1)


def test_where_nothing_is_refused_no_refusal_was_avoided() -> None:
    scene = Scene("api.z.ai", "glm-5.2", "/api/paas/v4/chat/completions")
    said = turn("Let me look.", [call("call_00_abcdefgh")], reasoning_content="R")
    plain = scene.say([user("Weather?")], said)
    report = scene.restore([user("Weather?"), plain, tool("call_00_abcdefgh", "mild")]).report
    assert (report.restored, report.demanded, dict(report.client)) == (1, 0, {"dropped": 1})


# --- end to end ---------------------------------------------------------------------------------------------


def told(proxy: Proxy) -> dict[str, Any]:
    """`stats --json` for the home of a proxy that has stopped."""
    environment = {"HOME": str(proxy.home), "XDG_DATA_HOME": str(proxy.home / ".local/share")}
    command = [sys.executable, "-m", "reasoning_fix", "stats", "--json"]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def talk(proxy: Proxy, simulator: Simulator, provider: Provider, dialect: Dialect, **more: Any) -> Person:
    opening = f"Weather, {provider.name} {dialect}?"
    script_four_turns(simulator, opening)
    person = through(proxy, provider, dialect, opening, **more)
    for _ in range(3):
        person.ask()
    person.says("Thanks.")
    person.ask()
    return person


def test_stats_agree_with_what_happened(start_proxy: StartProxy, provider: Simulator, tmp_path: Path) -> None:
    """Three guises, three dialects, a client that drops and one that keeps, and a refusal that teaches."""
    proxy = start_proxy(home=tmp_path / "home")
    talk(proxy, provider, DEEPSEEK, "chat", keeps=False)
    talk(proxy, provider, KIMI, "messages", keeps=True)
    talk(proxy, provider, DEEPSEEK, "responses", keeps=False, streamed=False)
    talk(proxy, provider, GLM, "chat", keeps=False)
    # A host whose rule says that nothing is demanded, until it refuses.
    provider.settings["api.z.ai"].demand = "every"
    provider.say(reasoning="So.", text="Fine.", cached=40, conversation="Old?")
    old = [user("Old?"), turn("Yes."), user("And?")]
    body = json.dumps({"model": "glm-4.7", "messages": old}).encode()
    headers = {"authorization": "Bearer sk-other", "user-agent": "somebody/1.0 (secret place)"}
    status, _, _ = raw_post(proxy, "api.z.ai", "/api/paas/v4/chat/completions", body, headers)
    assert status == 200
    proxy.stop()

    shown = told(proxy)
    lines = {(row["provider"], row["model"], row["client"]): row["counts"] for row in shown["lines"]}
    assert set(lines) == {
        ("deepseek", DEEPSEEK.model, "OpenAI/Python"),
        ("kimi", KIMI.model, "Anthropic/Python"),
        ("glm", GLM.model, "OpenAI/Python"),
        ("glm", "glm-4.7", "somebody"),
    }
    deepseek = lines["deepseek", DEEPSEEK.model, "OpenAI/Python"]
    # Two conversations of four requests; the 2nd to 4th bring 1, 2 and 3 turns without their reasoning.
    assert deepseek["requests"] == deepseek["recorded"] == 8
    assert deepseek["restored: context"] == 2 * (1 + 2 + 3)
    assert deepseek["avoided_refusals"] == deepseek["dropped"] == 6
    assert deepseek["prompt_tokens"] == 8 * 64 and deepseek["added_bytes"] > 0
    issued = [turn for turn in provider.ledger.turns if turn.host == DEEPSEEK.host]
    thought = sum(len((turn.reasoning or "").split()) for turn in issued)
    assert deepseek["thought_tokens"] >= thought > 0
    kimi = lines["kimi", KIMI.model, "Anthropic/Python"]
    assert (kimi["requests"], kimi["recorded"], kimi["kept"]) == (4, 4, 3)
    assert not {"dropped", "avoided_refusals", "added_bytes"} & kimi.keys()
    glm = lines["glm", GLM.model, "OpenAI/Python"]
    assert (glm["restored: context"], glm["dropped"]) == (6, 3)
    assert "avoided_refusals" not in glm
    assert lines["glm", "glm-4.7", "somebody"] == {
        "requests": 1,
        "refused: missing": 1,
        "repaired": 1,
        "lessons": 1,
        "filled": 1,
        "recorded": 1,
        "added_bytes": lines["glm", "glm-4.7", "somebody"]["added_bytes"],
        "prompt_tokens": 64,
        "cached_tokens": 40,
        "answer_tokens": lines["glm", "glm-4.7", "somebody"]["answer_tokens"],
        "thought_tokens": 1,
    }
    added = sum(len(request.body) for request in provider.asked("Old?")) - 2 * len(body)
    assert lines["glm", "glm-4.7", "somebody"]["added_bytes"] == added
    assert shown["totals"]["requests"] == len(provider.requests) - 1  # one was sent twice
    assert shown["store"]["turns"] == shown["totals"]["recorded"] + shown["totals"]["learned_turns"]
    kept = (proxy.home / ".local/share/reasoning-fix/counts.sqlite3").read_bytes()
    for secret in (b"sk-other", b"secret place", b"Weather", b"Polite", b"dry", b"Old?"):
        assert secret not in kept


def test_two_proxies_count_in_one_file(start_proxy: StartProxy, provider: Simulator, tmp_path: Path) -> None:
    home = tmp_path / "home"
    proxies = [start_proxy(home=home), start_proxy(home=home)]
    for proxy in proxies:
        talk(proxy, provider, DEEPSEEK, "chat", keeps=False)
    for proxy in proxies:
        proxy.stop()
    assert told(proxies[0])["totals"]["requests"] == 8


def test_the_memory_store_counts_in_memory(
    start_proxy: StartProxy, provider: Simulator, tmp_path: Path
) -> None:
    proxy = start_proxy("--set", "reasoning_store=memory", home=tmp_path / "home")
    talk(proxy, provider, DEEPSEEK, "chat", keeps=False)
    proxy.stop()
    assert list(proxy.home.rglob("counts.sqlite3*")) == []


def test_refusals_that_mean_nothing_known_are_counted(
    start_proxy: StartProxy, provider: Simulator, tmp_path: Path
) -> None:
    proxy = start_proxy(home=tmp_path / "home")
    provider.refuse(b'{"error":{"message":"no such colour"}}')
    body = json.dumps({"model": "deepseek-flash", "messages": [user("Hi")]}).encode()
    assert raw_post(proxy, DEEPSEEK.host, "/chat/completions", body)[0] == 400
    provider.refuse(b"slow down", status=429)
    assert raw_post(proxy, DEEPSEEK.host, "/chat/completions", body)[0] == 429
    proxy.stop()
    assert [row["counts"] for row in told(proxy)["lines"]] == [{"requests": 2, "refused: other": 1}]


@pytest.fixture
def addon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Interceptor, taddons.context]]:
    """The addon in a mitmproxy without a network."""
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    interceptor = Interceptor()
    with taddons.context(interceptor) as context:
        yield interceptor, context
        interceptor.done()


def asked(interceptor: Interceptor) -> http.HTTPFlow:
    flow = tflow.tflow(req=tutils.treq(host="api.deepseek.com", port=443, scheme=b"https"))
    flow.request.method, flow.request.path = "POST", "/chat/completions"
    flow.request.content = json.dumps({"model": "deepseek-flash", "messages": [user("Hi")]}).encode()
    interceptor.request(flow)
    return flow


def numbers(context: taddons.context) -> list[str]:
    """Requests, recorded, restored, filled, refused, repaired and cached, as the command says them."""
    lines = context.master.commands.call_strings("reasoning_fix.stats", ["3"])
    return list(lines[1].split()[2:])


def test_the_command_in_mitmproxy(addon: tuple[Interceptor, taddons.context]) -> None:
    """It counts what waits to be written, too."""
    interceptor, context = addon
    asked(interceptor)
    assert numbers(context) == ["1", "0", "0", "0", "0", "0", "-"]


def test_an_answer_that_was_cut_counts_as_far_as_it_came(addon: tuple[Interceptor, taddons.context]) -> None:
    interceptor, context = addon
    flow = asked(interceptor)
    flow.response = http.Response.make(200, b"", {"content-type": "text/event-stream"})
    del flow.response.headers["content-length"]
    interceptor.responseheaders(flow)
    assert callable(flow.response.stream)
    flow.response.stream(
        b'data: {"choices":[{"index":0,"delta":{"content":"Dry","reasoning_content":"So."}}]}\n\n'
    )
    flow.error = tflow.terr()
    interceptor.error(flow)
    interceptor.error(flow)
    assert numbers(context) == ["1", "1", "0", "0", "0", "0", "-"]


def test_one_answer_is_counted_once(addon: tuple[Interceptor, taddons.context]) -> None:
    interceptor, context = addon
    flow = asked(interceptor)
    flow.response = http.Response.make(400, b'{"error":"no"}', {"content-type": "application/json"})
    for _ in range(2):
        asyncio.run(interceptor.response(flow))
    interceptor.error(flow)
    assert numbers(context) == ["1", "0", "0", "0", "1", "0", "-"]


# --- the command --------------------------------------------------------------------------------------------


def test_stats_for_a_person(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "turns.sqlite3"
    kept = Book(store.with_name(book.FILE), flush_seconds=1e6)
    today = counts.line(time.time(), "deepseek", "deepseek-flash", "opencode/1.0")
    kept.add(today, {"requests": 3, "restored: context": 2})
    kept.close()
    assert main(["stats", "--store", str(store)]) == 0
    output = capsys.readouterr().out
    assert "deepseek deepseek-flash" in output and "context 2" in output
    # Not a terminal here: plain characters.
    assert f"{today.day}  ########" in output and "█" not in output


def test_an_empty_book_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tables.report({}) == ["Nothing was counted yet."]
    assert tables.chart({}) == []
    path = tmp_path / "empty.sqlite3"
    path.touch()
    assert book.read(path) == {}
    assert book.erase(path) == 0


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 kB"), (2_500_000, "2.5 MB"), (3 * 10**9, "3.0 GB")],
)
def test_sizes(number: int, shown: str) -> None:
    assert tables.size(number) == shown


@pytest.mark.parametrize("words", [["--days", "0"], ["--days", "many"], ["--days", "-3"], ["--unknown"]])
def test_stats_used_wrongly(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["stats", *words])
    assert ended.value.code == 2


def test_stats_of_a_damaged_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / book.FILE).write_bytes(random.Random(1).randbytes(5000))
    assert main(["stats", "--store", str(tmp_path / "turns.sqlite3")]) == 1
    assert "cannot be read" in capsys.readouterr().err
