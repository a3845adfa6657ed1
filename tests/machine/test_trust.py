"""The trust stores of each platform, and the `ca` command: what is looked at, what is run, what is undone.

Linux is tested for real, below a folder of the test's own; macOS and Windows by their exact commands.
"""

import datetime
import json
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from reasoning_fix import cli
from reasoning_fix.cli import ca as command
from reasoning_fix.machine import folders as own_folders
from reasoning_fix.machine.plan import Command, Done
from reasoning_fix.machine.trust import authority, bundle, linux, macos, nss, stores, windows
from reasoning_fix.machine.trust.authority import Authority
from reasoning_fix.machine.trust.machine import Machine
from tests.impostor import write_leaf

PEM = "-----BEGIN CERTIFICATE-----\nAAAABBBBCCCC\n-----END CERTIFICATE-----\n"
OTHER = "-----BEGIN CERTIFICATE-----\nDDDDEEEEFFFF\n-----END CERTIFICATE-----\n"
NOW = datetime.datetime.now(datetime.UTC)
ROOT = Authority(
    directory=Path("/ca"),
    name="reasoning-fix CA 1a2b3c4d",
    subject="",
    fingerprint="",
    sha1="AB" * 20,
    start=NOW,
    expiry=NOW,
    constrained=True,
    permitted=(),
    pem=PEM,
)


class Computer(Machine):
    """A computer that is only described; it notes what it is asked to run."""

    def __init__(
        self,
        system: str,
        *,
        commands: Mapping[str, str] | None = None,
        files: Mapping[str, str] | None = None,
        folders: Sequence[str] = (),
        answers: Mapping[tuple[str, ...], Done] | None = None,
        administrator: bool = False,
    ) -> None:
        self.system = system
        self.home = Path("/home/me")
        self.root = Path("/")
        self.administrator = administrator
        self.ran: list[tuple[str, ...]] = []
        self._commands, self._files = dict(commands or {}), dict(files or {})
        self._folders, self._answers = tuple(folders), dict(answers or {})

    def find(self, command: str) -> str | None:
        return self._commands.get(command)

    def variable(self, name: str) -> str:
        return ""

    def read(self, path: Path) -> bytes | None:
        content = self._files.get(str(path))
        return None if content is None else content.encode()

    def folders(self, pattern: str) -> tuple[Path, ...]:
        wanted = str(self.home / pattern)
        return tuple(Path(folder) for folder in self._folders if PurePosixPath(folder).match(wanted))

    def is_folder(self, path: Path) -> bool:
        return str(path) in self._folders

    def run(self, words: Sequence[str]) -> Done:
        self.ran.append(tuple(words))
        return self._answers.get(tuple(words), Done(1, ""))


def lines(steps: Sequence[Command], computer: Computer) -> list[str]:
    return [computer.line(step) for step in steps]


# ---- Linux, described ------------------------------------------------------------------------------------

# Family -> folder, command, bundle, and the lines that install and (once it is there) uninstall.
FAMILIES = {
    "Debian": (
        "/usr/local/share/ca-certificates",
        "update-ca-certificates",
        "/etc/ssl/certs/ca-certificates.crt",
        "/usr/local/share/ca-certificates/reasoning-fix.crt",
        "/usr/sbin/update-ca-certificates",
        "/usr/sbin/update-ca-certificates --fresh",
    ),
    "Fedora": (
        "/etc/pki/ca-trust/source/anchors",
        "update-ca-trust",
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
        "/etc/pki/ca-trust/source/anchors/reasoning-fix.pem",
        "/usr/sbin/update-ca-trust extract",
        "/usr/sbin/update-ca-trust extract",
    ),
    "Arch": (
        "/etc/ca-certificates/trust-source/anchors",
        "update-ca-trust",
        "/etc/ca-certificates/extracted/tls-ca-bundle.pem",
        "/etc/ca-certificates/trust-source/anchors/reasoning-fix.crt",
        "/usr/sbin/update-ca-trust",
        "/usr/sbin/update-ca-trust",
    ),
    "SUSE": (
        "/etc/pki/trust/anchors",
        "update-ca-certificates",
        "/var/lib/ca-certificates/ca-bundle.pem",
        "/etc/pki/trust/anchors/reasoning-fix.pem",
        "/usr/sbin/update-ca-certificates",
        "/usr/sbin/update-ca-certificates",
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_linux_family(family: str) -> None:
    folder, name, bundled, anchor, update, afresh = FAMILIES[family]
    commands = {name: f"/usr/sbin/{name}"}
    bare = Computer("Linux", commands=commands, folders=[folder])
    (store,) = linux.stores(bare, ROOT)
    assert (store.kind, store.state, store.place, store.uninstall) == ("system", "absent", anchor, ())
    assert family in store.title
    assert lines(store.install, bare) == [
        f"sudo install -m 0644 {ROOT.certificate} {anchor}",
        f"sudo {update}",
    ]

    files = {anchor: PEM, bundled: OTHER + PEM}
    done = Computer("Linux", commands=commands, folders=[folder], files=files, administrator=True)
    (store,) = linux.stores(done, ROOT)
    assert store.state == "present"
    assert lines(store.uninstall, done) == [f"rm -f {anchor}", afresh]

    # An older CA of ours lies there: the links by hash have to be made anew.
    before = Computer("Linux", commands=commands, folders=[folder], files={anchor: OTHER, bundled: OTHER})
    (store,) = linux.stores(before, ROOT)
    assert (store.state, store.uninstall) == ("absent", ())
    assert lines(store.install, before)[1] == f"sudo {afresh}"

    # Copied, but the command did not run.
    half = Computer("Linux", commands=commands, folders=[folder], files={anchor: PEM, bundled: OTHER})
    (store,) = linux.stores(half, ROOT)
    assert store.state == "absent" and store.uninstall

    for computer in (bare, done, before, half):
        assert computer.ran == []


def test_a_linux_that_is_not_known() -> None:
    assert linux.stores(Computer("Linux", folders=["/etc/ssl/certs"]), ROOT) == ()
    # The folder alone, or the command alone, is no store.
    assert linux.stores(Computer("Linux", folders=["/etc/pki/trust/anchors"]), ROOT) == ()
    assert linux.stores(Computer("Linux", commands={"update-ca-trust": "/usr/bin/x"}), ROOT) == ()


# ---- NSS, described --------------------------------------------------------------------------------------

NSS_FOLDERS = {
    "/home/me/.pki/nssdb": "Chromium, Chrome",
    "/home/me/snap/chromium/current/.pki/nssdb": "Chromium (snap)",
    "/home/me/.var/app/org.chromium.Chromium/.pki/nssdb": "Chromium (flatpak)",
    "/home/me/.mozilla/firefox/ab12.default": "Firefox: ab12.default",
    "/home/me/.config/mozilla/firefox/cd34.default": "Firefox: cd34.default",
    "/home/me/snap/firefox/common/.mozilla/firefox/x.y": "Firefox (snap): x.y",
    "/home/me/.var/app/org.mozilla.firefox/.mozilla/firefox/z": "Firefox (flatpak): z",
}


def test_nss_databases_are_found_and_each_has_its_own_commands() -> None:
    files = {f"{folder}/cert9.db": "" for folder in NSS_FOLDERS}
    folders = [*NSS_FOLDERS, "/home/me/.mozilla/firefox/Crash Reports"]
    listed = ("certutil", "-d", "sql:/home/me/.pki/nssdb", "-L", "-n", ROOT.name, "-a")
    computer = Computer(
        "Linux",
        commands={"certutil": "certutil"},
        files=files,
        folders=folders,
        answers={listed: Done(0, PEM)},
    )
    found = {store.place: store for store in nss.stores(computer, ROOT)}
    assert {place: store.title for place, store in found.items()} == NSS_FOLDERS
    assert {place for place, store in found.items() if store.state == "present"} == {"/home/me/.pki/nssdb"}
    chromium, firefox = found["/home/me/.pki/nssdb"], found["/home/me/.mozilla/firefox/ab12.default"]
    assert lines(chromium.uninstall, computer) == [
        "certutil -d sql:/home/me/.pki/nssdb -D -n 'reasoning-fix CA 1a2b3c4d'"
    ]
    assert lines(firefox.install, computer) == [
        "certutil -d sql:/home/me/.mozilla/firefox/ab12.default -A -t C,, -n 'reasoning-fix CA 1a2b3c4d' "
        "-i /ca/mitmproxy-ca-cert.pem"
    ]
    assert firefox.uninstall == ()
    assert all("-L" in words for words in computer.ran), "looking changed something"


def test_nss_without_certutil_says_what_to_install() -> None:
    folder = "/home/me/.pki/nssdb"
    computer = Computer("Linux", folders=[folder], files={f"{folder}/cert9.db": ""})
    (store,) = nss.stores(computer, ROOT)
    assert store.state == "unreachable" and "libnss3-tools" in store.note
    assert (store.install, store.uninstall, computer.ran) == ((), (), [])


# ---- macOS and Windows, by their exact commands ----------------------------------------------------------

KEYCHAIN = "/home/me/Library/Keychains/login.keychain-db"
FIND = ("security", "find-certificate", "-a", "-Z", "-c", ROOT.name, KEYCHAIN)
SETTINGS = ("security", "dump-trust-settings")
KEPT = Done(0, f'SHA-256 hash: {"CD" * 32}\nSHA-1 hash: {"AB" * 20}\nkeychain: "{KEYCHAIN}"')
TRUSTED = Done(0, f"Number of trusted certs = 1\nCert 0: {ROOT.name}\n   Number of trust settings : 2")
DELETE = f"security delete-certificate -Z {'AB' * 20} -t {KEYCHAIN}"


@pytest.mark.parametrize(
    ("answers", "state", "undo"),
    [
        ({}, "absent", []),
        ({FIND: Done(0, "SHA-1 hash: 0000")}, "absent", []),
        ({FIND: KEPT}, "absent", [DELETE]),
        ({FIND: KEPT, SETTINGS: Done(1, "No Trust Settings were found.")}, "absent", [DELETE]),
        ({FIND: KEPT, SETTINGS: Done(0, "Cert 0: someone else")}, "absent", [DELETE]),
        ({FIND: KEPT, SETTINGS: TRUSTED}, "present", [DELETE]),
    ],
    ids=["nothing", "another", "kept only", "no settings", "another's settings", "trusted"],
)
def test_macos(answers: dict[tuple[str, ...], Done], state: str, undo: list[str]) -> None:
    computer = Computer("Darwin", answers=answers)
    (store,) = macos.stores(computer, ROOT)
    assert (store.kind, store.state) == ("keychain", state)
    assert lines(store.install, computer) == [
        f"security add-trusted-cert -r trustRoot -p ssl -p basic -k {KEYCHAIN} /ca/mitmproxy-ca-cert.pem"
    ]
    assert lines(store.uninstall, computer) == undo
    assert set(computer.ran) <= {FIND, SETTINGS}


CERTUTIL = r"C:\Windows\System32\certutil.exe"


@pytest.mark.parametrize("present", [False, True])
def test_windows(present: bool) -> None:
    listed = (CERTUTIL, "-user", "-store", "Root", ROOT.sha1)
    root = msgspec.structs.replace(ROOT, directory=Path(r"C:\Users\Me Too"))
    computer = Computer("Windows", answers={listed: Done(0, "...")} if present else {})
    (store,) = windows.stores(computer, root)
    assert (store.kind, store.state) == ("windows", "present" if present else "absent")
    assert lines(store.install, computer) == [rf'{CERTUTIL} -user -addstore Root "{root.certificate}"']
    assert lines(store.uninstall, computer) == (
        [f"{CERTUTIL} -user -delstore Root {ROOT.sha1}"] if present else []
    )
    assert computer.ran == [listed]


def test_sudo_only_where_it_is_needed() -> None:
    step = Command(("rm", "x"), administrator=True)
    assert Computer("Linux").words(step) == ("sudo", "rm", "x")
    assert Computer("Linux", administrator=True).words(step) == ("rm", "x")
    assert Computer("Linux").words(Command(("rm", "x"))) == ("rm", "x")


def test_a_system_that_is_not_known(tmp_path: Path) -> None:
    assert stores.find(Computer("Plan 9"), authority.ensure(tmp_path, ("a.example",), {})) == ()


def test_a_command_that_is_not_there() -> None:
    assert Machine().run(("/nowhere/command",)).code == 127


# ---- Linux, for real -------------------------------------------------------------------------------------

type Person = Callable[..., tuple[int, str]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A Debian system's files, with one public CA."""
    root = tmp_path / "root"
    for folder in (
        "usr/local/share/ca-certificates",
        "usr/share/ca-certificates",
        "etc/ssl/certs",
        "etc/ca-certificates/update.d",
    ):
        (root / folder).mkdir(parents=True)
    public = authority.ensure(tmp_path / "public", ("public.example",), {})
    shutil.copy(public.certificate, root / "usr/share/ca-certificates/public.crt")
    (root / "etc/ca-certificates.conf").write_text("public.crt\n")
    return root


@pytest.fixture
def person(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Person:
    """Runs `reasoning-fix ca ...` with a home and a system of the test's own: exit code and all output."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", *bundle.VARIABLES):
        monkeypatch.delenv(name, raising=False)
    machine = Machine(home, root)
    machine.system = "Linux"
    monkeypatch.setattr(command, "Machine", lambda: machine)

    def run(*words: str) -> tuple[int, str]:
        code = cli.main(["ca", *words])
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


def _made() -> Authority:
    made = authority.load(own_folders.configuration())
    assert made is not None
    return made


def _database(home: Path, place: str) -> Path:
    if shutil.which("certutil") is None:
        pytest.skip("certutil (libnss3-tools) is not installed")
    folder = home / place
    folder.mkdir(parents=True)
    subprocess.run(["certutil", "-N", "--empty-password", "-d", f"sql:{folder}"], check=True)
    return folder


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.skipif(
    Machine().find("update-ca-certificates") is None, reason="update-ca-certificates is not installed"
)
class TestDebian:
    def test_install_and_uninstall(self, person: Person, root: Path) -> None:
        assert person("create")[0] == 0
        before = _files(root)
        code, said = person("install", "--dry-run")
        assert code == 0 and _files(root) == before
        anchor = root / "usr/local/share/ca-certificates/reasoning-fix.crt"
        assert f"install -m 0644 {_made().certificate} {anchor}" in said

        code, said = person("install", "--store", "system")
        assert code == 0, said
        assert "trusts the CA now" in said and "reasoning-fix ca uninstall" in said
        bundled = (root / "etc/ssl/certs/ca-certificates.crt").read_bytes()
        assert bundle.holds(bundled, _made().pem) and bundled.count(b"BEGIN CERTIFICATE") == 2
        # What programs find by hash (OpenSSL's CApath) has it too.
        assert self._verifies(root)

        state = _files(root)
        code, said = person("install", "--store", "system")
        assert code == 0 and "trusts the CA already" in said and _files(root) == state

        code, said = person("uninstall")
        assert code == 0, said
        bundled = (root / "etc/ssl/certs/ca-certificates.crt").read_bytes()
        assert not bundle.holds(bundled, _made().pem) and bundled.count(b"BEGIN CERTIFICATE") == 1
        assert not anchor.exists() and not self._verifies(root)
        assert person("uninstall") == (0, "No trust store here has the CA: nothing to undo.\n")

    def test_after_a_renewal_only_the_new_one_is_trusted(self, person: Person, root: Path) -> None:
        person("create")
        person("install", "--store", "system")
        old = _made()
        code, said = person("create", "--renew")
        assert code == 0 and "still trusted by the system's store" in said
        code, said = person("install", "--store", "system")
        assert code == 0, said
        bundled = (root / "etc/ssl/certs/ca-certificates.crt").read_bytes()
        assert bundle.holds(bundled, _made().pem) and not bundle.holds(bundled, old.pem)
        assert self._verifies(root)

    def test_uninstall_finds_one_from_before_a_renewal(self, person: Person, root: Path) -> None:
        person("create")
        person("install", "--store", "system")
        old = _made()
        person("create", "--renew")
        code, said = person("uninstall")
        assert code == 0, said
        assert not bundle.holds((root / "etc/ssl/certs/ca-certificates.crt").read_bytes(), old.pem)

    def test_a_command_that_fails_is_said(self, person: Person, root: Path) -> None:
        shutil.rmtree(root / "etc/ssl/certs")
        code, said = person("install", "--store", "system")
        assert code == 1 and "failed with exit code" in said and "does not trust the CA" in said

    def _verifies(self, root: Path) -> bool:
        words = ["openssl", "verify", "-no-CAfile", "-CApath", str(root / "etc/ssl/certs")]
        done = subprocess.run([*words, str(_made().certificate)], capture_output=True, check=False)
        return done.returncode == 0


def test_nss_for_real(person: Person, tmp_path: Path) -> None:
    folders = [_database(tmp_path / "home", place) for place in (".pki/nssdb", ".mozilla/firefox/a.default")]
    person("create")
    before = [_listed(folder) for folder in folders]
    code, said = person("install", "--store", "nss")
    assert code == 0, said
    for folder in folders:
        (line,) = [line for line in _listed(folder).splitlines() if _made().name in line]
        assert line.split()[-1] == "C,,"
    code, said = person("install", "--store", "nss")
    assert code == 0 and said.count("trusts the CA already") == 2
    old = _made()
    person("create", "--renew")
    code, said = person("install", "--store", "nss")
    assert code == 0, said
    for folder in folders:
        assert _made().name in _listed(folder) and old.name not in _listed(folder)
    code, said = person("uninstall", "--store", "nss")
    assert code == 0, said
    assert [_listed(folder) for folder in folders] == before


def test_nss_believes_it_for_provider_hosts_only(person: Person, tmp_path: Path) -> None:
    """As Firefox and Chromium on Linux would: NSS's own verifier."""
    folder = _database(tmp_path / "home", ".pki/nssdb")
    person("create")
    person("install", "--store", "nss")
    sent, _ = x509.load_pem_x509_certificates(_made().key_file.read_bytes())  # as a server sends it
    signing = tmp_path / "signing.pem"
    signing.write_bytes(sent.public_bytes(Encoding.PEM))
    database = ["-d", f"sql:{folder}"]
    subprocess.run(["certutil", *database, "-A", "-t", ",,", "-n", "sent", "-i", str(signing)], check=True)
    verdicts = {}
    for host in ("api.deepseek.com", "openrouter.ai", "example.com", "xapi.deepseek.com", "127.0.0.1"):
        leaf = write_leaf(_made(), tmp_path, host)
        subprocess.run(["certutil", *database, "-A", "-t", ",,", "-n", host, "-i", str(leaf)], check=True)
        words = ["certutil", *database, "-V", "-u", "V", "-n", host]
        verdicts[host] = subprocess.run(words, capture_output=True, check=False).returncode == 0
    assert {host for host, believed in verdicts.items() if believed} == {"api.deepseek.com", "openrouter.ai"}


def _listed(folder: Path) -> str:
    done = subprocess.run(
        ["certutil", "-d", f"sql:{folder}", "-L"], capture_output=True, text=True, check=True
    )
    return done.stdout


# ---- The command -----------------------------------------------------------------------------------------


def test_create_refuses_to_write_over(person: Person) -> None:
    code, said = person("create")
    assert code == 0 and "and no other" in said
    before = _files(own_folders.configuration())
    code, said = person("create")
    assert code == 2 and "ca create --renew" in said and _files(own_folders.configuration()) == before


def test_another_folder_is_named_in_what_to_do_next(person: Person, tmp_path: Path) -> None:
    folder = str(tmp_path / "else where")
    assert person("create", "--confdir", folder)[0] == 0
    code, said = person("create", "--confdir", folder)
    assert code == 2 and f"create --renew --confdir '{folder}'" in said
    assert authority.load(own_folders.configuration()) is None


def test_a_dry_run_without_a_ca_makes_none(person: Person) -> None:
    code, said = person("install", "--dry-run")
    assert code == 2 and "ca create" in said
    assert not own_folders.configuration().exists()


def test_show(person: Person) -> None:
    code, said = person("show")
    assert code == 1 and "ca create" in said
    person("create")
    code, said = person("show")
    made = _made()
    assert code == 0
    for wanted in ("api.deepseek.com", made.subject, made.fingerprint[-2:], str(made.certificate)):
        assert wanted in said
    assert f"{made.expiry:%Y-%m-%d}" in said and "does not trust it" in said


def test_show_for_scripts(person: Person) -> None:
    code, said = person("show", "--json")
    assert code == 1 and "error" in json.loads(said)
    person("create")
    code, said = person("show", "--json")
    shown, made = json.loads(said), _made()
    assert code == 0
    assert shown["sha256"] == made.fingerprint and shown["permitted"] == list(made.permitted)
    assert shown["outgrown"] == [] and shown["constrained"] is True
    assert {store["kind"] for store in shown["stores"]} <= {"system", "nss"}


def test_show_says_when_the_table_has_grown(person: Person, tmp_path: Path) -> None:
    person("create")
    own = tmp_path / "own.toml"
    own.write_text('[[provider]]\nname = "mine"\nhosts = ["llm.example.com"]\n')
    code, said = person("show", "--user-providers", str(own))
    assert code == 1 and "llm.example.com" in said and "ca create --renew" in said
    assert json.loads(person("show", "--json", "--user-providers", str(own))[1])["outgrown"] == [
        "llm.example.com"
    ]
    # The file in its usual place is found without being named.
    shutil.copy(own, own_folders.configuration() / "providers.toml")
    assert "llm.example.com" in person("show")[1]
    assert person("create", "--renew")[0] == 0
    assert person("show")[0] == 0 and "llm.example.com" in _made().permitted


def test_a_faulty_table_is_said(person: Person, tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text("[[provider]]\nname = 3\n")
    code, said = person("create", "--user-providers", str(own))
    assert code == 2 and str(own) in said


def test_without_sudo_the_lines_are_printed(
    person: Person, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    person("create")
    machine = Machine(root=root)
    machine.administrator = False
    found = machine.find
    monkeypatch.setattr(
        machine, "find", lambda name: None if name == "sudo" else found(name) or f"/bin/{name}"
    )
    monkeypatch.setattr(command, "Machine", lambda: machine)
    before = _files(root)
    code, said = person("install", "--store", "system")
    assert code == 1 and "no sudo here" in said and "install -m 0644" in said and _files(root) == before


@pytest.mark.parametrize("action", ["install", "uninstall"])
def test_where_no_store_is_known(action: str, person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    person("create")
    monkeypatch.setattr(command, "Machine", lambda: Computer("Plan 9"))
    code, said = person(action)
    assert code == (1 if action == "install" else 0)
    assert ("certs.md" in said) == (action == "install")


def test_a_store_is_never_changed_by_looking(person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """`show` and a dry run only run commands that list."""
    person("create")
    for system in ("Darwin", "Windows"):
        computer = Computer(system)
        monkeypatch.setattr(command, "Machine", lambda computer=computer: computer)
        person("show")
        person("install", "--dry-run")
        person("uninstall", "--dry-run")
        asked = {words[1] if system == "Darwin" else words[2] for words in computer.ran}
        assert asked <= {"find-certificate", "dump-trust-settings", "-store"}
