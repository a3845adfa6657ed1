"""The CA: it is made once, keeps its key, and programs believe it for provider hosts only."""

import datetime
import re
import shutil
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import certifi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from mitmproxy import certs

from reasoning_fix.machine.trust import authority, bundle
from reasoning_fix.machine.trust.authority import Authority, AuthorityError
from reasoning_fix.providers.table import load_table
from tests.conftest import StartProxy
from tests.impostor import LOOPBACK, PROGRAMS, Door, missing, write_leaf
from tests.mitmdump import raw_post

HOSTS = load_table().hosts()
# A user's own hosts: a gateway, its wildcard, an address.
OWN = ("gateway.example.net", "*.models.example.org", "10.1.2.3")

ACCEPTED = {
    "a provider's host": "api.deepseek.com",
    "a gateway": "openrouter.ai",
    "a host that a wildcard names": "team-7.maas.aliyuncs.com",
    "below a provider's host: constraints are subtrees": "beta.api.deepseek.com",
    "the health page": "reasoning.fix",
}
REFUSED = {
    "any other": "example.com",
    "a bank": "www.paypal.com",
    "the provider's apex": "deepseek.com",
    "the provider's website": "chat.deepseek.com",
    "a longer label": "xapi.deepseek.com",
    "a host as the beginning of another": "api.deepseek.com.example",
    "both": "evilapi.deepseek.com.example",
    "a longer top domain": "api.deepseek.com.cn",
    "all around a wildcard": "aliyuncs.com",
    "a single label": "localhost",
}


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority.ensure(tmp_path_factory.mktemp("ca"), HOSTS, {})


@pytest.fixture(scope="module")
def door(ca: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    opened = Door(ca, tmp_path_factory.mktemp("door"))
    yield opened
    opened.close()


# ---- Who believes it, and for whom -----------------------------------------------------------------------


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_believe_it_for_provider_hosts_and_for_no_other(
    name: str, ca: Authority, door: Door, tmp_path: Path
) -> None:
    commands, ask = PROGRAMS[name]
    if lacking := missing(commands):
        pytest.skip(f"{lacking} is not installed")
    root = tmp_path / "root.pem"
    shutil.copy(ca.certificate, root)
    hosts = [*ACCEPTED.values(), *REFUSED.values(), LOOPBACK]
    verdicts = ask(root, door.port, hosts)
    assert {host for host in hosts if not verdicts[host]} == set(ACCEPTED.values())
    if name in ("python", "python, strict", "node"):  # these say why
        said = {verdict for host, verdict in verdicts.items() if host in REFUSED.values()}
        assert all("permitted subtree violation" in verdict for verdict in said), said
        assert "excluded subtree violation" in verdicts[LOOPBACK]


@pytest.mark.parametrize("host", ACCEPTED.values(), ids=ACCEPTED)
def test_openssl_verifies_a_leaf_for(host: str, ca: Authority, tmp_path: Path) -> None:
    assert _verify(ca, write_leaf(ca, tmp_path, host)) == ""


@pytest.mark.parametrize("host", REFUSED.values(), ids=REFUSED)
def test_openssl_refuses_a_leaf_for(host: str, ca: Authority, tmp_path: Path) -> None:
    assert "permitted subtree violation" in _verify(ca, write_leaf(ca, tmp_path, host))


@pytest.mark.parametrize("address", ["127.0.0.1", "8.8.8.8", "::1", "2001:db8::1"])
def test_openssl_refuses_every_address(address: str, ca: Authority, tmp_path: Path) -> None:
    assert "excluded subtree violation" in _verify(ca, write_leaf(ca, tmp_path, address))


@pytest.mark.parametrize("other", ["*.deepseek.com", "deepseek.com", "10.0.0.1"])
def test_one_name_too_many_spoils_a_leaf(other: str, ca: Authority, tmp_path: Path) -> None:
    assert "subtree violation" in _verify(ca, write_leaf(ca, tmp_path, "api.deepseek.com", other))


def test_the_root_alone_is_limited_too(ca: Authority) -> None:
    root, signing = _chain(ca)[::-1]
    for certificate, below in ((root, 1), (signing, 0)):
        extensions = certificate.extensions
        limits = extensions.get_extension_for_class(x509.NameConstraints)
        basic = extensions.get_extension_for_class(x509.BasicConstraints)
        usage = extensions.get_extension_for_class(x509.KeyUsage)
        assert limits.critical and basic.critical and usage.critical
        assert (basic.value.ca, basic.value.path_length) == (True, below)
        assert usage.value.key_cert_sign and usage.value.crl_sign and not usage.value.digital_signature
    assert root.public_key() != signing.public_key()


def test_the_roots_key_is_kept_nowhere(ca: Authority) -> None:
    root, signing = _chain(ca)[::-1]
    keys = {
        path.name: [
            serialization.load_pem_private_key(block, None).public_key()
            for block in re.findall(
                rb"-----BEGIN [A-Z ]*PRIVATE KEY.*?-----END [A-Z ]*-----", content, re.DOTALL
            )
        ]
        for path in ca.directory.rglob("*")
        if b"PRIVATE KEY" in (content := path.read_bytes() if path.is_file() else b"")
    }
    assert keys == {ca.key_file.name: [signing.public_key()]}
    assert signing.issuer == root.subject


def test_s_client_believes_s_server_for_a_provider_only(ca: Authority, tmp_path: Path) -> None:
    for host, believed in (("api.deepseek.com", True), ("example.com", False)):
        leaf = write_leaf(ca, tmp_path, host)
        server = subprocess.Popen(
            [
                "openssl",
                "s_server",
                "-accept",
                f"{LOOPBACK}:0",
                "-cert",
                leaf,
                "-cert_chain",
                leaf,
                "-key",
                leaf,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            assert server.stdout is not None
            port = (
                next(line for line in server.stdout if line.startswith("ACCEPT")).rpartition(":")[2].strip()
            )
            words = ["openssl", "s_client", "-connect", f"{LOOPBACK}:{port}", "-servername", host]
            words += ["-verify_hostname", host, "-CAfile", str(ca.certificate), "-verify_return_error"]
            done = subprocess.run(words, input="", capture_output=True, text=True, timeout=20, check=False)
        finally:
            server.kill()
            server.wait()
        assert (done.returncode == 0) == believed, done.stderr
        assert ("permitted subtree violation" in done.stderr) != believed


# ---- A user's own table ----------------------------------------------------------------------------------


def test_a_users_hosts_are_permitted_and_only_those_addresses(tmp_path: Path) -> None:
    ca = authority.ensure(tmp_path / "ca", (*HOSTS, *OWN), {})
    assert ca.outgrown((*HOSTS, *OWN)) == ()
    for host in ("gateway.example.net", "a.models.example.org", "10.1.2.3"):
        assert _verify(ca, write_leaf(ca, tmp_path, host)) == ""
    for host in ("example.net", "10.1.2.4", "::1", "models.example.com"):
        assert "subtree violation" in _verify(ca, write_leaf(ca, tmp_path, host))


@pytest.mark.parametrize(
    ("hosts", "permitted"),
    [
        (("b.example", "a.example"), ("a.example", "b.example")),
        (("*.example.com",), ("example.com",)),
        (("example.com", "*.example.com", "api.example.com"), ("example.com",)),
        (("API.Example.com.",), ("api.example.com",)),
        (("notexample.com", "example.com"), ("example.com", "notexample.com")),
        (("10.0.0.1", "::1", "a.example"), ("a.example", "10.0.0.1/32", "::1/128")),
    ],
)
def test_subtrees(hosts: tuple[str, ...], permitted: tuple[str, ...]) -> None:
    assert authority.subtrees(hosts) == permitted


@pytest.mark.parametrize(
    ("host", "covered"),
    [
        ("api.deepseek.com", True),
        ("new.api.deepseek.com", True),
        ("*.api.deepseek.com", True),
        ("API.DeepSeek.com.", True),
        ("*.maas.aliyuncs.com", True),
        ("deepseek.com", False),
        ("*.deepseek.com", False),
        ("xapi.deepseek.com", False),
        ("10.0.0.1", False),
        ("::1", False),
    ],
)
def test_a_table_that_has_grown(host: str, covered: bool, ca: Authority) -> None:
    assert ca.outgrown((*HOSTS, host)) == (() if covered else (host,))
    remarks = " ".join(ca.remarks((*HOSTS, host)))
    assert (host in remarks and "ca create --renew" in remarks) != covered


# ---- Made once -------------------------------------------------------------------------------------------


def test_the_files(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "ca"
    ca = authority.ensure(folder, HOSTS, {})
    assert ca.made and stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {
        "mitmproxy-ca.pem": 0o600,
        "mitmproxy-ca-cert.pem": 0o644,
        "mitmproxy-ca-cert.cer": 0o644,
        "mitmproxy-ca-cert.p12": 0o644,
        "mitmproxy-dhparam.pem": 0o644,
        "reasoning-fix-bundle.pem": 0o644,
    }


def test_mitmproxy_finds_all_it_needs_and_adds_nothing(ca: Authority) -> None:
    before = _contents(ca.directory)
    store = certs.CertStore.from_store(ca.directory, "mitmproxy", 2048)
    assert store.default_ca.to_cryptography() == _chain(ca)[0]
    assert _contents(ca.directory) == before


def test_a_second_start_changes_nothing(tmp_path: Path) -> None:
    first = authority.ensure(tmp_path, HOSTS, {})
    before = _contents(tmp_path)
    second = authority.ensure(tmp_path, ("other.example",), {})
    assert _contents(tmp_path) == before
    assert (second.fingerprint, second.made) == (first.fingerprint, False)


def test_what_is_missing_beside_the_key_comes_back(tmp_path: Path) -> None:
    authority.ensure(tmp_path, HOSTS, {})
    before = _contents(tmp_path)
    for name in ("mitmproxy-ca-cert.pem", "reasoning-fix-bundle.pem"):
        (tmp_path / name).unlink()
    authority.ensure(tmp_path, HOSTS, {})
    assert {name: text for name, (text, _) in _contents(tmp_path).items()} == {
        name: text for name, (text, _) in before.items()
    }


_MANY = """
import sys
from pathlib import Path
from reasoning_fix.machine.trust import authority
sys.stdin.readline()
for i in range(5):
    ca = authority.ensure(Path(sys.argv[1]) / str(i), ["api.deepseek.com"], {})
    print(ca.fingerprint, ca.made, ca.remarks())
"""


def test_several_starts_at_once_make_one_ca(tmp_path: Path) -> None:
    running = [
        subprocess.Popen(
            [sys.executable, "-c", _MANY, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in running:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=60)[0].splitlines() for process in running]
    for line in zip(*answers, strict=True):
        assert len({said.split()[0] for said in line}) == 1
        assert sum(said.split()[1] == "True" for said in line) == 1
        assert all(said.endswith("()") for said in line)
    assert all(len(said) == 5 for said in answers)
    assert not [path for path in tmp_path.rglob(".*")], "unfinished files are left"


def test_a_folder_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    ca = authority.ensure(tmp_path, HOSTS, {})
    assert stat.S_IMODE(ca.key_file.stat().st_mode) == 0o600
    before = _contents(tmp_path)
    authority.ensure(tmp_path, HOSTS, {})
    assert _contents(tmp_path) == before


def test_a_certificate_whose_key_is_gone_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "mitmproxy-ca-cert.pem").write_text("someone's")
    with pytest.raises(AuthorityError, match="Move it away"):
        authority.ensure(tmp_path, HOSTS, {})
    assert [path.name for path in tmp_path.iterdir()] == ["mitmproxy-ca-cert.pem"]


def test_a_file_that_is_no_ca(tmp_path: Path) -> None:
    (tmp_path / "mitmproxy-ca.pem").write_text("not a certificate")
    with pytest.raises(AuthorityError, match="holds no certificate"):
        authority.ensure(tmp_path, HOSTS, {})
    assert (tmp_path / "mitmproxy-ca.pem").read_text() == "not a certificate"


def test_mitmproxys_own_ca_is_used_as_it_is_and_said_so(tmp_path: Path) -> None:
    certs.CertStore.create_store(tmp_path, "mitmproxy", 2048)
    before = _contents(tmp_path)
    ca = authority.ensure(tmp_path, HOSTS, {})
    assert not ca.constrained and not ca.made and ca.outgrown(("anything.example",)) == ()
    assert "a CA for every host" in " ".join(ca.remarks(HOSTS))
    assert {name: seen for name, seen in _contents(tmp_path).items() if name in before} == before
    assert _verify(ca, write_leaf(ca, tmp_path, "example.com")) == ""


def test_nothing_is_there() -> None:
    assert authority.load(Path("/nowhere")) is None


def test_remarks(tmp_path: Path) -> None:
    ca = authority.ensure(tmp_path, HOSTS, {})
    day = datetime.timedelta(days=1)
    assert ca.remarks(HOSTS) == ()
    assert "expires on" in ca.remarks(HOSTS, ca.expiry - 30 * day)[0]
    assert "expired on" in ca.remarks(HOSTS, ca.expiry + day)[0]
    assert "clock" in ca.remarks(HOSTS, ca.start - day)[0]
    ca.key_file.chmod(0o644)
    assert "chmod 600" in ca.remarks(HOSTS)[0]
    ca.key_file.chmod(0o600)
    other = authority.ensure(tmp_path / "other", HOSTS, {})
    shutil.copy(other.certificate, ca.certificate)
    assert "is not the certificate of" in ca.remarks(HOSTS)[0]


def test_renewing_keeps_the_old_one_aside(tmp_path: Path) -> None:
    old = authority.ensure(tmp_path, HOSTS, {})
    key = old.key_file.read_bytes()
    new = authority.renew(tmp_path, (*HOSTS, "new.example"), {})
    assert new.made and new.fingerprint != old.fingerprint and new.outgrown(("new.example",)) == ()
    assert new.remarks((*HOSTS, "new.example")) == ()
    (former,) = authority.former(tmp_path)
    assert (former.fingerprint, former.key_file.read_bytes()) == (old.fingerprint, key)
    assert stat.S_IMODE(former.directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(former.key_file.stat().st_mode) == 0o600
    assert bundle.holds(new.bundle.read_bytes(), new.pem)
    assert not bundle.holds(new.bundle.read_bytes(), old.pem)
    assert authority.load(tmp_path) == authority.ensure(tmp_path, HOSTS, {})


# ---- The bundle ------------------------------------------------------------------------------------------


def test_the_bundle_loses_nothing_and_names_each_once(ca: Authority) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca.bundle)
    bundled = set(context.get_ca_certs(binary_form=True))
    public = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    public.load_verify_locations(certifi.where())
    assert bundled >= set(public.get_ca_certs(binary_form=True))
    assert _chain(ca)[1].public_bytes(serialization.Encoding.DER) in bundled
    assert ca.bundle.read_text().count("BEGIN CERTIFICATE") == len(bundled)


@pytest.mark.parametrize("variable", bundle.VARIABLES)
def test_the_persons_own_bundle_is_kept(variable: str, tmp_path: Path) -> None:
    company = authority.ensure(tmp_path / "company", ("intranet.example",), {}).pem
    own = tmp_path / "company.pem"
    own.write_text(company)
    folder = tmp_path / "ca"

    def bundled(environment: dict[str, str]) -> bool:
        return bundle.holds(authority.ensure(folder, HOSTS, environment).bundle.read_bytes(), company)

    assert not bundled({})
    assert bundled({variable: str(own)})
    content = (folder / "reasoning-fix-bundle.pem").read_bytes()
    # Started by a service, or inside a shell that names our bundle: it is remembered.
    assert bundled({}) and bundled({variable: str(folder / "reasoning-fix-bundle.pem")})
    assert (folder / "reasoning-fix-bundle.pem").read_bytes() == content
    own.unlink()
    assert not bundled({})


def test_a_variable_that_names_no_file_or_no_certificates(tmp_path: Path) -> None:
    (tmp_path / "noise.pem").write_bytes(b"\xff\x00 no certificate")
    environment = {"SSL_CERT_FILE": str(tmp_path / "none.pem"), "CURL_CA_BUNDLE": str(tmp_path / "noise.pem")}
    ca = authority.ensure(tmp_path / "ca", HOSTS, environment)
    assert bundle.holds(ca.bundle.read_bytes(), ca.pem)


# ---- Through the proxy -----------------------------------------------------------------------------------


def test_a_real_mitmdump_shows_leaves_that_are_accepted(start_proxy: StartProxy, tmp_path: Path) -> None:
    """The upstream's certificate has other names too, and its address is one: none may be on the leaf."""
    home = tmp_path / "home"
    authority.ensure(home / "mitmproxy", HOSTS, {})
    proxy = start_proxy(home=home)
    status, _, _ = raw_post(proxy, "api.deepseek.com", "/models", b"{}")
    assert status in (400, 401, 404, 405)
    assert "does not cover" not in "".join(proxy.lines)


def test_a_host_that_the_ca_is_too_old_for_is_said_once(start_proxy: StartProxy, tmp_path: Path) -> None:
    home = tmp_path / "home"
    authority.ensure(home / "mitmproxy", ("api.moonshot.ai",), {})
    proxy = start_proxy(home=home)
    for _ in range(2):
        with pytest.raises(ssl.SSLCertVerificationError, match="certificate verify failed"):
            raw_post(proxy, "api.deepseek.com", "/models", b"{}")
    proxy.wait_for(r"api\.deepseek\.com: the CA does not cover this host")
    assert "".join(proxy.lines).count("does not cover") == 1


def _chain(ca: Authority) -> list[x509.Certificate]:
    """The signing CA, then the root."""
    chain = x509.load_pem_x509_certificates(ca.key_file.read_bytes())
    assert len(chain) == 2
    return chain


def _verify(ca: Authority, leaf: Path) -> str:
    """What `openssl verify` has against a leaf; "" when nothing."""
    words = [
        "openssl",
        "verify",
        "-CAfile",
        str(ca.certificate),
        "-untrusted",
        str(leaf),
        "-purpose",
        "sslserver",
    ]
    done = subprocess.run([*words, str(leaf)], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stderr


def _contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir() if path.is_file()
    }
