"""What doctor finds: all well with a real proxy, then one thing broken at a time, and doctor names it."""

import argparse
import datetime
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from reasoning_fix import __version__
from reasoning_fix.cli import doctor
from reasoning_fix.diagnosis import Finding, authority, programs, storage, variables, ways
from reasoning_fix.diagnosis.authority import Authority
from reasoning_fix.diagnosis.programs import Owner
from reasoning_fix.machine.plan import Done
from reasoning_fix.providers.table import load_table
from reasoning_fix.proxy.health import Counts, Health, StoreState
from reasoning_fix.proxy.probing import NOTHING, ask_health
from tests.authorities import DAY, make_authority
from tests.mitmdump import _FOLDERS, Proxy
from tests.provider.simulator import DEEPSEEK, FOREIGN_HOST, Simulator

HOSTS = sorted(load_table().hosts())
CLEARED = (
    *variables._PROXIES,
    *variables.TRUST,
    *("NO_PROXY", "no_proxy", "NODE_TLS_REJECT_UNAUTHORIZED", "SSL_CERT_DIR", "XDG_CURRENT_DESKTOP"),
)
HEALTH = Health(
    status="ok",
    version=__version__,
    mitmproxy="12.2.3",
    python="3.12.1",
    pid=4711,
    uptime_seconds=61.0,
    listening=["regular@127.0.0.1:8080"],
    counts=Counts(),
    store=StoreState("sqlite", "/x", True),
    ca_sha256="AA:BB",
    ca_expires="2030-01-01",
)


class House:
    """A fresh HOME with a constrained CA and a real proxy; `broken` says what fails in it."""

    def __init__(self, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
        self.proxy = proxy
        self.monkeypatch = monkeypatch
        self.home = proxy.home
        self.confdir = proxy.home / "mitmproxy"
        self.certificate = self.confdir / "mitmproxy-ca-cert.pem"
        self.bundle = self.confdir / "reasoning-fix-bundle.pem"
        self.store = self.home / ".local/share/reasoning-fix/turns.sqlite3"
        self.port = proxy.port
        self.online: str | None = None

    def set(self, name: str, value: object) -> None:
        self.monkeypatch.setenv(name, str(value))

    def unset(self, name: str) -> None:
        self.monkeypatch.delenv(name, raising=False)

    def arguments(self) -> argparse.Namespace:
        return argparse.Namespace(
            host="127.0.0.1", port=self.port, confdir=self.confdir, online=self.online, json=True
        )

    def findings(self) -> list[Finding]:
        return list(doctor.examine(self.arguments()))

    def broken(self) -> dict[str, Finding]:
        return {finding.check: finding for finding in self.findings() if finding.verdict == "fail"}


@pytest.fixture(scope="module")
def _shared(_simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    home = tmp_path_factory.mktemp("house")
    make_authority(home / "mitmproxy", HOSTS, intermediate=True)
    # The simulator's certificate names all hosts at once; mitmproxy would put them into its own.
    proxy = Proxy(_simulator, home, "--set", "upstream_cert=false")
    yield proxy
    proxy.stop()


@pytest.fixture
def house(
    _shared: Proxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, provider: Simulator
) -> Iterator[House]:
    for name in CLEARED:
        monkeypatch.delenv(name, raising=False)
    for name, folder in _FOLDERS.items():
        monkeypatch.setenv(name, str(_shared.home / folder))
    # No desktop, and no browser's or system's programs but Node.
    (tmp_path / "bin").mkdir()
    for name in ("node", "env", "sh", "cat"):
        if found := shutil.which(name):
            (tmp_path / "bin" / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    kept = {path: path.read_bytes() for path in (_shared.home / "mitmproxy").iterdir()}
    yield House(_shared, monkeypatch)
    for path, content in kept.items():
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        path.chmod(0o600)


def inside(house: House) -> None:
    """The environment of a program that comes through the proxy."""
    house.set("HTTPS_PROXY", f"http://127.0.0.1:{house.port}")
    house.set("SSL_CERT_FILE", house.bundle)
    house.set("REQUESTS_CA_BUNDLE", house.bundle)
    house.set("NODE_EXTRA_CA_CERTS", house.certificate)
    house.set("NO_PROXY", "localhost,127.0.0.1")


def test_all_is_well_in_a_fresh_home(house: House) -> None:
    assert house.broken() == {}


def test_all_is_well_inside_too(house: House) -> None:
    inside(house)
    verdicts = {finding.check: finding.verdict for finding in house.findings()}
    assert verdicts == dict.fromkeys(verdicts, "ok") | {
        name: "skip" for name in ("trust: platform", "system proxy", "upstream proxy")
    } | ({} if shutil.which("node") else {"trust: Node": "skip"})


def test_the_command_prints_it_and_says_so_by_its_exit_code(house: House) -> None:
    command = [sys.executable, "-m", "reasoning_fix", "doctor", "--confdir", str(house.confdir)]
    well = subprocess.run([*command, "--port", str(house.port)], capture_output=True, text=True)
    assert well.returncode == 0 and "FAIL" not in well.stdout, well.stdout + well.stderr
    assert "ok    CA constraints: " in well.stdout
    port = _unused_port()
    broken = subprocess.run([*command, "--port", str(port), "--json"], capture_output=True, text=True)
    found = msgspec.json.decode(broken.stdout, type=list[Finding])
    assert broken.returncode == 1
    assert [finding.check for finding in found if finding.verdict == "fail"] == ["request"]


type Break = Callable[[House], None]


def _no_ca(house: House) -> None:
    house.certificate.unlink()


def _damaged_ca(house: House) -> None:
    (house.confdir / "mitmproxy-ca.pem").write_text("-----BEGIN CERTIFICATE-----\nx\n")


def _other_root(house: House) -> None:
    make_authority(house.home / "other", HOSTS)
    shutil.copy(house.home / "other" / "mitmproxy-ca-cert.pem", house.certificate)


def _another_ca(house: House) -> None:
    make_authority(house.confdir, HOSTS)


def _expired_ca(house: House) -> None:
    make_authority(house.confdir, HOSTS, start=-30 * DAY, end=-DAY)


def _future_ca(house: House) -> None:
    make_authority(house.confdir, HOSTS, start=3 * DAY)


def _unconstrained_ca(house: House) -> None:
    make_authority(house.confdir, None)


def _loose_ca(house: House) -> None:
    make_authority(house.confdir, HOSTS, critical=False)


def _outgrown_ca(house: House) -> None:
    make_authority(house.confdir, HOSTS[:-1])


def _open_key(house: House) -> None:
    (house.confdir / "mitmproxy-ca.pem").chmod(0o640)


def _old_bundle(house: House) -> None:
    house.bundle.write_bytes(house.bundle.read_bytes().rpartition(b"-----BEGIN CERTIFICATE")[0])


def _small_bundle(house: House) -> None:
    shutil.copy(house.certificate, house.bundle)


def _no_bundle(house: House) -> None:
    house.bundle.unlink()


def _nobody_there(house: House) -> None:
    house.port = _unused_port()


# The change -> the checks that fail by it, and a word of what the first of them says.
BREAKS: dict[str, tuple[Break, set[str], str]] = {
    "no CA": (_no_ca, {"CA"}, "there is no"),
    "damaged CA": (_damaged_ca, {"CA"}, "cannot be read"),
    "certificate of another CA": (_other_root, {"CA"}, "not the root"),
    "another CA than the proxy's": (_another_ca, {"request"}, "another CA"),
    "expired": (_expired_ca, {"CA dates", "trust: Node", "request"}, "expired on"),
    "not yet valid": (_future_ca, {"CA dates", "trust: Node", "request"}, "valid only from"),
    "unconstrained": (_unconstrained_ca, {"CA constraints", "request"}, "every host"),
    "constraints not critical": (_loose_ca, {"CA constraints", "request"}, "do not bind"),
    "outgrown": (_outgrown_ca, {"CA constraints", "request"}, HOSTS[-1].removeprefix("*.")),
    "key readable by others": (_open_key, {"CA key"}, "0640"),
    "bundle without the CA": (_old_bundle, {"CA bundle"}, "does not hold this CA"),
    "bundle without public CAs": (_small_bundle, {"CA bundle"}, "no public CA"),
    "no bundle": (_no_bundle, {"CA bundle"}, "No such file"),
    "no proxy": (_nobody_there, {"request"}, NOTHING),
}


@pytest.mark.parametrize("change", BREAKS)
def test_one_broken_thing_is_named(house: House, change: str) -> None:
    do, checks, said = BREAKS[change]
    do(house)
    broken = house.broken()
    if shutil.which("node") is None:
        checks = checks - {"trust: Node"}
    assert set(broken) == checks
    first = next(finding for finding in broken.values())
    assert said in first.said and first.fix


def _alone(house: House) -> None:
    house.set("SSL_CERT_FILE", house.certificate)


INSIDE_BREAKS: dict[str, tuple[Break, set[str], str]] = {
    "SSL_CERT_FILE with the CA alone": (_alone, {"trust variables"}, "every other host fails"),
    "SSL_CERT_FILE missing": (
        lambda house: house.set("SSL_CERT_FILE", "/nowhere.pem"),
        {"trust: OpenSSL", "trust variables"},
        "/nowhere.pem",
    ),
    "SSL_CERT_FILE of others": (
        lambda house: house.set("SSL_CERT_FILE", _others(house)),
        {"trust: OpenSSL", "trust variables"},
        "does not make it trusted",
    ),
    "SSL_CERT_FILE unset": (
        lambda house: house.unset("SSL_CERT_FILE"),
        {"trust: OpenSSL"},
        "do not trust it",
    ),
    "REQUESTS_CA_BUNDLE empty file": (
        lambda house: house.set("REQUESTS_CA_BUNDLE", "/dev/null"),
        {"trust variables"},
        "no certificate",
    ),
    "NODE_EXTRA_CA_CERTS of others": (
        lambda house: house.set("NODE_EXTRA_CA_CERTS", _others(house)),
        {"trust: Node", "trust variables"},
        "NODE_EXTRA_CA_CERTS",
    ),
    "NODE_EXTRA_CA_CERTS unset": (
        lambda house: house.unset("NODE_EXTRA_CA_CERTS"),
        {"trust: Node"},
        "NODE_EXTRA_CA_CERTS is not set",
    ),
    "Node trusts everybody": (
        lambda house: house.set("NODE_TLS_REJECT_UNAUTHORIZED", "0"),
        {"trust variables"},
        "accept anybody",
    ),
    "NO_PROXY has a provider": (
        lambda house: house.set("NO_PROXY", "localhost,.deepseek.com"),
        {"NO_PROXY"},
        ".deepseek.com",
    ),
    "spellings contradict": (
        lambda house: house.set("https_proxy", "http://user:secret@127.0.0.1:9"),
        {"proxy variables"},
        "contradict",
    ),
}


@pytest.mark.parametrize("change", INSIDE_BREAKS)
def test_one_broken_variable_is_named(house: House, change: str) -> None:
    inside(house)
    do, checks, said = INSIDE_BREAKS[change]
    do(house)
    if shutil.which("node") is None:
        checks = checks - {"trust: Node"}
    broken = house.broken()
    assert set(broken) == checks
    assert said in next(iter(broken.values())).said
    assert "secret" not in str(broken)


def test_a_companys_store_is_no_fault_where_programs_do_not_come_here(house: House) -> None:
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"):
        house.set(name, _others(house))
    assert house.broken() == {}


def test_another_port_in_the_variables_is_named(house: House) -> None:
    house.set("HTTPS_PROXY", "http://localhost:9")
    assert set(house.broken()) == {"proxy variables"}


def test_a_port_that_another_program_has_is_named(house: House) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        threading.Thread(target=_be_rude, args=(taken,), daemon=True).start()
        house.port = taken.getsockname()[1]
        broken = house.broken()
    assert set(broken) == {"port", "request"}
    assert f"process {os.getpid()}" in broken["port"].said and "listen-port" in broken["port"].fix


def test_a_store_that_is_open_to_others_or_damaged_is_named(house: House) -> None:
    content = house.store.read_bytes()
    try:
        house.store.chmod(0o644)
        assert set(house.broken()) == {"store"}
        house.store.chmod(0o600)
        secret = house.store.parent / "secret"
        whole = secret.read_bytes()
        secret.write_bytes(whole[:-1])
        assert set(house.broken()) == {"secret"}
        secret.write_bytes(whole)
        assert house.broken() == {}
    finally:
        house.store.write_bytes(content)


def test_a_system_proxy_without_a_proxy_is_named(house: House) -> None:
    state = house.home / ".local/state/reasoning-fix/system-proxy.json"
    state.parent.mkdir(parents=True)
    address = f"127.0.0.1:{house.port}"
    saved = {"desktop": "gnome", "address": address, "before": {}, "ours": {}}
    state.write_text(json.dumps(saved))
    try:
        assert set(house.broken()) == {"system proxy"}
    finally:
        shutil.rmtree(state.parent)


def test_a_wrong_provider_table_is_named(house: House) -> None:
    own = house.home / ".config/reasoning-fix/providers.toml"
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text("[[provider]]\nname = 1\n")
    try:
        broken = house.broken()
        assert set(broken) == {"providers"} and str(own) in broken["providers"].fix
    finally:
        own.unlink()


def test_online_a_provider_is_read_and_no_other(house: House, provider: Simulator) -> None:
    house.online = DEEPSEEK.host
    (found,) = (finding for finding in house.findings() if finding.check == f"TLS to {DEEPSEEK.host}")
    assert found.verdict == "ok" and "read by the proxy" in found.said
    house.online = FOREIGN_HOST
    # Its own CA is not among the public ones.
    assert set(house.broken()) == {f"TLS to {FOREIGN_HOST}"}
    house.bundle.write_bytes(house.bundle.read_bytes() + provider.ca.read_bytes())
    (found,) = (finding for finding in house.findings() if finding.check == f"TLS to {FOREIGN_HOST}")
    assert found.verdict == "ok" and "passed through untouched" in found.said


def _others(house: House) -> Path:
    make_authority(house.home / "others", HOSTS)
    return house.home / "others" / "reasoning-fix-bundle.pem"


def _be_rude(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            connection.recv(4096)
            connection.sendall(b"SSH-2.0-rude\r\n")


def _unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- each check by itself -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "verdict"), [((3, 12, 0), "ok"), ((3, 14, 1), "ok"), ((3, 11, 9), "fail"), ((2, 7, 18), "fail")]
)
def test_python(found: Sequence[int], verdict: str) -> None:
    assert programs.python_version(found).verdict == verdict


@pytest.mark.parametrize(
    ("found", "verdict"),
    [("12.2.3", "ok"), ("12.3.0.dev", "ok"), ("12.1.9", "fail"), ("11.0.0", "fail"), ("13.0.0", "fail")],
)
def test_mitmproxy(found: str, verdict: str) -> None:
    assert programs.mitmproxy_version(found).verdict == verdict


def test_the_owner_of_a_port_by_proc() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        assert [owner.pid for owner in programs.owners_by_proc(number)] == [os.getpid()]
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken6:
            assert [o.pid for o in programs.owners_by_proc(taken6.getsockname()[1])] == [os.getpid()]
    assert programs.owners_by_proc(number) == []


def test_the_owner_of_a_port_that_cannot_be_seen(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000 0 54321 1"
    (tmp_path / "net" / "tcp").write_text(f"  sl  local_address\n{line}\n")
    owners = programs.owners_by_proc(8080, tmp_path)
    assert owners == [Owner(0)]
    assert "another user" in programs.port("127.0.0.1:8080", "x", owners).said


def test_the_owner_of_a_port_by_lsof() -> None:
    def run(argv: Sequence[str]) -> Done:
        assert argv == ("lsof", "-nP", "-iTCP:8080", "-sTCP:LISTEN", "-Fpc")
        return Done(0, "p77\ncnode\nf12\np78\ncruby\n")

    assert programs.owners_by_lsof(8080, run) == [Owner(77, "node"), Owner(78, "ruby")]
    assert programs.owners_by_lsof(8080, lambda argv: Done(1)) == []


def test_the_owner_of_a_port_by_netstat() -> None:
    def run(argv: Sequence[str]) -> Done:
        if argv[0] == "tasklist":
            assert argv == ("tasklist", "/FI", "PID eq 77", "/FO", "CSV", "/NH")
            return Done(0, '"node.exe","77","Console","1","9 K"\r\n')
        rows = [
            "  TCP    127.0.0.1:8080         0.0.0.0:0              ABHÖREN         77",
            "  TCP    127.0.0.1:18080        0.0.0.0:0              ABHÖREN         1",
            "  TCP    127.0.0.1:8080         127.0.0.1:5000         HERGESTELLT     2",
        ]
        return Done(0, "\r\n".join(["", "Aktive Verbindungen", *rows]))

    assert programs.owners_by_netstat(8080, run) == [Owner(77, "node.exe")]


@pytest.mark.parametrize(
    ("answer", "owners", "verdict", "said"),
    [
        (HEALTH, [], "ok", "reasoning-fix"),
        (NOTHING, [], "ok", "free"),
        (NOTHING, [Owner(7, "sshd")], "fail", "sshd (process 7)"),
        ("something else answers", [], "fail", "another program"),
    ],
)
def test_port(answer: Health | str, owners: list[Owner], verdict: str, said: str) -> None:
    finding = programs.port("127.0.0.1:8080", answer, owners)
    assert finding.verdict == verdict and said in finding.said


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    folder = tmp_path_factory.mktemp("ca")
    make_authority(folder, HOSTS)
    loaded = authority.load(folder)
    assert isinstance(loaded, Authority)
    return loaded


@pytest.mark.parametrize("days", [1, 20])
def test_a_ca_that_ends_soon_is_named(made: Authority, days: int) -> None:
    end = made.root.not_valid_after_utc
    assert "soon" in authority.dates(made, end - days * DAY).said
    assert authority.dates(made, end - 40 * DAY).verdict == "ok"


@pytest.mark.parametrize(
    ("trusted", "needed", "verdict"),
    [
        (True, True, "ok"),
        (False, True, "fail"),
        (False, False, "skip"),
        (None, False, "skip"),
        (None, True, "fail"),
    ],
)
def test_the_platform_must_trust_only_where_its_programs_come_here(
    trusted: bool | None, needed: bool, verdict: str
) -> None:
    assert authority.by_platform(trusted, needed).verdict == verdict


def test_who_asks_the_platforms_store(made: Authority, tmp_path: Path) -> None:
    asked: list[str] = []

    def run(argv: Sequence[str]) -> Done:
        asked.append(" ".join(argv))
        return Done(1)

    certificate = tmp_path / "ca.pem"
    assert authority.platform_trusts("darwin", made, certificate, run) is False
    assert authority.platform_trusts("win32", made, certificate, run) is False
    sha1 = asked[1].rpartition(" ")[2]
    assert asked == [
        f"security verify-cert -c {certificate} -p basic -l -L",
        f"certutil -user -store Root {sha1}",
        f"certutil -store Root {sha1}",
    ]
    make_authority(tmp_path / "there", HOSTS)
    store = str(tmp_path / "there" / "reasoning-fix-bundle.pem")
    there = authority.load(tmp_path / "there")
    assert isinstance(there, Authority)
    assert authority.platform_trusts("linux", there, certificate, run, ("/nowhere", store)) is True
    assert authority.platform_trusts("linux", made, certificate, run, (store,)) is False
    assert authority.platform_trusts("linux", made, certificate, run, ("/nowhere",)) is None


def test_a_specimen_leaves_nothing_behind(made: Authority) -> None:
    with authority.specimen(made, "api.deepseek.com") as files:
        assert files.chain.is_file() and files.key == made.confdir / "mitmproxy-ca.pem"
    assert not files.chain.parent.exists()


@pytest.mark.parametrize(
    ("no_proxy", "verdict"),
    [
        ("", "skip"),
        ("localhost,127.0.0.1,::1", "ok"),
        ("*", "fail"),
        ("api.deepseek.com", "fail"),
        ("deepseek.com:443", "fail"),
        ("*.deepseek.com", "fail"),
        ("com", "fail"),
        ("seek.com", "ok"),
        ("localhost .corp.example", "ok"),
    ],
)
def test_bypass(no_proxy: str, verdict: str) -> None:
    assert variables.bypass({"no_proxy": no_proxy}, ["api.deepseek.com", "*.z.ai"]).verdict == verdict


@pytest.mark.parametrize(
    ("environ", "verdict"),
    [
        ({}, "skip"),
        ({"HTTPS_PROXY": "http://127.0.0.1:8080"}, "ok"),
        ({"https_proxy": "localhost:8080"}, "ok"),
        ({"HTTPS_PROXY": "http://127.0.0.1:8080", "https_proxy": "http://127.0.0.1:8080"}, "ok"),
        ({"HTTPS_PROXY": "http://127.0.0.1:8081"}, "fail"),
        ({"ALL_PROXY": "socks5://127.0.0.1:1080"}, "fail"),
        ({"HTTPS_PROXY": "http://corp.example:3128"}, "skip"),
        ({"HTTPS_PROXY": "http://"}, "fail"),
        ({"HTTPS_PROXY": "http://[::1"}, "fail"),
        ({"HTTPS_PROXY": "http://127.0.0.1:port"}, "fail"),
    ],
)
def test_proxy_variables(environ: dict[str, str], verdict: str) -> None:
    assert variables.proxies(environ, "127.0.0.1", 8080).verdict == verdict


@pytest.mark.parametrize(
    ("environ", "proxy"),
    [
        ({}, ""),
        ({"HTTPS_PROXY": "http://u:p@corp.example:3128"}, "corp.example:3128"),
        ({"ALL_PROXY": "http://corp.example"}, "corp.example:80"),
        ({"HTTPS_PROXY": "http://127.0.0.1:8080"}, ""),
    ],
)
def test_the_persons_own_proxy(environ: dict[str, str], proxy: str) -> None:
    assert variables.foreign_proxy(environ) == proxy


@pytest.mark.parametrize(
    ("needed", "listening", "reached", "verdict"),
    [
        ("", [], None, "skip"),
        ("corp:3128", ["regular@127.0.0.1:8080"], True, "fail"),
        ("corp:3128", ["upstream@127.0.0.1:8080"], True, "ok"),
        ("corp:3128", ["upstream@127.0.0.1:8080"], False, "fail"),
    ],
)
def test_upstream(needed: str, listening: list[str], reached: bool | None, verdict: str) -> None:
    health = msgspec.structs.replace(HEALTH, listening=listening)
    assert ways.upstream(needed, health, reached).verdict == verdict


@pytest.mark.parametrize(
    ("proxies", "remembered", "answer", "verdict"),
    [
        ([], "", HEALTH, "skip"),
        (["127.0.0.1:8080"], "127.0.0.1:8080", HEALTH, "ok"),
        (["127.0.0.1:8080"], "127.0.0.1:8080", NOTHING, "fail"),
        (["corp:3128"], "127.0.0.1:8080", HEALTH, "fail"),
        (["corp:3128"], "", HEALTH, "skip"),
    ],
)
def test_system_proxy(proxies: list[str], remembered: str, answer: Health | str, verdict: str) -> None:
    assert ways.system_proxy(proxies, remembered, "127.0.0.1:8080", answer).verdict == verdict


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (HEALTH, "up 1 min"),
        (NOTHING, "no proxy"),
        (msgspec.structs.replace(HEALTH, version="0.0.1"), "version 0.0.1"),
        (msgspec.structs.replace(HEALTH, ca_sha256="CC"), "another CA"),
        (msgspec.structs.replace(HEALTH, store=StoreState("memory", "/x", False)), "cannot use its store"),
    ],
)
def test_request(answer: Health | str, said: str) -> None:
    finding = ways.request(answer, "127.0.0.1:8080", __version__, "AA:BB")
    assert said in finding.said and (finding.verdict == "ok") == (answer is HEALTH)


NOON = datetime.datetime(2026, 6, 1, 12, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("heard", "earliest", "verdict"),
    [
        (NOON, NOON, "ok"),
        (NOON + datetime.timedelta(minutes=4), NOON, "ok"),
        (NOON + datetime.timedelta(minutes=6), NOON, "fail"),
        (NOON - datetime.timedelta(hours=1), NOON, "fail"),
        (None, NOON - DAY, "ok"),
        (None, NOON + DAY, "fail"),
    ],
)
def test_clock(heard: datetime.datetime | None, earliest: datetime.datetime, verdict: str) -> None:
    assert ways.clock(NOON, heard, earliest).verdict == verdict


@pytest.mark.parametrize(
    ("issuer", "is_provider", "verdict"),
    [("ours", True, "ok"), ("public", True, "fail"), ("public", False, "ok"), ("ours", False, "fail")],
)
def test_handshake(issuer: str, is_provider: bool, verdict: str) -> None:
    answered = ways.Answered("h", 200, issuer, None)
    assert ways.handshake(answered, "h", is_provider, "ours").verdict == verdict
    assert ways.handshake("refused", "h", is_provider, "ours").verdict == "fail"


def test_a_damaged_store_is_looked_into_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "turns.sqlite3"
    assert storage.store(path).verdict == "ok" and not path.exists()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE turns (row INTEGER PRIMARY KEY, sealed BLOB, mark TEXT)")
        connection.execute("CREATE INDEX turns_mark ON turns (mark)")
        rows = [(b"x" * 900, f"needle{number:02}") for number in range(50)]
        connection.executemany("INSERT INTO turns (sealed, mark) VALUES (?, ?)", rows)
    connection.close()
    path.chmod(0o600)
    assert "50 turns" in storage.store(path).said
    whole = path.read_bytes()
    damaged = whole[:8192] + os.urandom(4096) + whole[12288:]
    # A table and its index that do not agree can be read, and are damaged all the same.
    apart = whole.replace(b"needle07", b"nettle07", 1)
    for content in (damaged, b"no database at all" * 100, apart):
        path.write_bytes(content)
        finding = storage.store(path)
        assert finding.verdict == "fail" and "damaged" in finding.said
        assert path.read_bytes() == content
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["turns.sqlite3"]


def test_something_else_at_the_port_is_no_proxy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        threading.Thread(target=_be_rude, args=(taken,), daemon=True).start()
        assert "no HTTP answer" in str(ask_health("127.0.0.1", taken.getsockname()[1]))
    assert ask_health("127.0.0.1", _unused_port()) == NOTHING


@pytest.mark.parametrize(
    ("barred", "said"), [("", "cannot be written"), ("turns.sqlite3", "cannot be read and")]
)
def test_a_store_that_is_not_ours_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, barred: str, said: str
) -> None:
    path = tmp_path / "turns.sqlite3"
    path.touch(0o600)
    # As for a user without these rights; the one who runs the tests may have all.
    monkeypatch.setattr(os, "access", lambda place, mode: place != tmp_path / barred)
    finding = storage.store(path)
    assert finding.verdict == "fail" and said in finding.said and "chown" in finding.fix


def test_the_secret_of_the_store(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    assert storage.secret(tmp_path).verdict == "ok" and not path.exists()
    path.mkdir()
    assert "cannot be read" in storage.secret(tmp_path).said
    path.rmdir()
    path.write_bytes(b"s" * 32)
    path.chmod(0o640)
    open_to_others = storage.secret(tmp_path)
    assert open_to_others.verdict == "fail" and open_to_others.fix == f"chmod 600 {path}"
    path.chmod(0o600)
    assert storage.secret(tmp_path).verdict == "ok"


def test_a_ca_whose_files_do_not_belong_together(tmp_path: Path) -> None:
    make_authority(tmp_path / "ours", HOSTS)
    make_authority(tmp_path / "other", HOSTS)
    key_file = tmp_path / "ours" / "mitmproxy-ca.pem"
    whole = key_file.read_bytes()
    certificates = whole[whole.index(b"-----BEGIN CERTIFICATE") :]
    other = (tmp_path / "other" / "mitmproxy-ca.pem").read_bytes()
    foreign = other[: other.index(b"-----BEGIN CERTIFICATE")]
    unusual = ed25519.Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    for key, said in ((foreign, "belongs to no certificate"), (unusual, "neither RSA nor elliptic")):
        key_file.write_bytes(key + certificates)
        found = authority.load(tmp_path / "ours")
        assert isinstance(found, Finding) and said in found.said
    key_file.write_bytes(whole)
    assert isinstance(authority.load(tmp_path / "ours"), Authority)


def test_a_chain_that_ends_before_the_root(tmp_path: Path) -> None:
    make_authority(tmp_path, HOSTS, intermediate=True)
    make_authority(tmp_path / "other", HOSTS)
    found = authority.load(tmp_path)
    assert isinstance(found, Authority)
    lookalike = authority.load(tmp_path / "other")
    assert isinstance(lookalike, Authority)
    assert authority._leads_to(found.root, found.signer, found.chain)
    # Of the same name as the issuer, and not the issuer; and where nobody of that name is there.
    assert not authority._leads_to(lookalike.root, found.signer, (lookalike.root,))
    assert not authority._leads_to(found.signer, found.root, ())


def test_a_ca_that_openssl_takes_for_every_host(made: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    assert authority.constraints(made, HOSTS).verdict == "ok"
    monkeypatch.setattr(authority, "trusted_by_openssl", lambda files, host, trust: True)
    finding = authority.constraints(made, HOSTS)
    assert finding.verdict == "fail" and "OpenSSL accepts it" in finding.said


def test_a_key_where_files_have_no_mode(tmp_path: Path) -> None:
    assert authority.key_file(tmp_path / "k", None).verdict == "skip"
    assert authority.key_file(tmp_path / "k", 0o640).verdict == "fail"
    assert authority.key_file(tmp_path / "k", 0o600).verdict == "ok"


def test_a_shell_without_a_store_of_its_own_that_comes_through_the_proxy() -> None:
    finding = authority.openssl("unable to get local issuer", "", needed=True)
    assert finding.verdict == "fail" and "do not trust it" in finding.said
    assert authority.openssl("unable to get local issuer", "", needed=False).verdict == "skip"


@pytest.mark.parametrize(("platform", "asked"), [("darwin", "lsof"), ("win32", "netstat")])
def test_who_is_asked_for_the_owner_of_a_port(
    monkeypatch: pytest.MonkeyPatch, platform: str, asked: str
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    calls: list[tuple[str, ...]] = []

    def run(command: tuple[str, ...]) -> Done:
        calls.append(command)
        return Done(1, "", "")

    monkeypatch.setattr("reasoning_fix.machine.plan.run", run)
    assert doctor._owners(8080) == []
    assert Path(calls[0][0]).name == asked


def test_whether_a_persons_own_proxy_takes_connections() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        assert doctor._takes_connections(f"127.0.0.1:{listening.getsockname()[1]}") is True
    assert doctor._takes_connections(f"127.0.0.1:{_unused_port()}") is False
    assert doctor._takes_connections("corp.example:http") is None


def test_a_memory_store_and_a_proxy_that_is_not_there(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = msgspec.structs.replace(HEALTH, store=StoreState("memory", "", True))
    monkeypatch.setattr(doctor, "ask_health", lambda host, port: kept)
    store = {finding.check: finding for finding in house.findings()}["store"]
    assert store.verdict == "skip" and "memory" in store.said
    monkeypatch.setattr(doctor, "ask_health", lambda host, port: NOTHING)
    house.online = "api.deepseek.com"
    tls = {finding.check: finding for finding in house.findings()}["TLS to api.deepseek.com"]
    assert tls.verdict == "skip"
