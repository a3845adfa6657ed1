"""A TLS server on loopback that has the CA's key and lies: it shows a certificate for whatever name is asked.

That is what a thief of the key could do, and what the proxy does for provider hosts. Programs then say
whether they believe it.
"""

import ipaddress
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from cryptography import x509
from mitmproxy.certs import CertStore

from reasoning_fix.machine.trust.authority import Authority

LOOPBACK = "127.0.0.1"
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_SECONDS = 60

type Verdicts = dict[str, str]
"""Host -> "" where the program accepted the certificate, else what it said."""


def general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def write_leaf(authority: Authority, folder: Path, *hosts: str) -> Path:
    """A certificate signed by mitmproxy itself, its chain and its key in one PEM file."""
    store = CertStore.from_store(authority.directory, "mitmproxy", 2048)
    names = [general_name(host) for host in hosts]
    common = next(
        (host for host, name in zip(hosts, names, strict=True) if isinstance(name, x509.DNSName)), None
    )
    entry = store.get_cert(common, x509.GeneralNames(names))
    path = folder / f"{hosts[0].replace('*', 'any').replace(':', '-')}-{len(hosts)}.pem"
    chain = b"".join(link.to_pem() for link in entry.chain_certs)
    path.write_bytes(entry.cert.to_pem() + chain + authority.key_file.read_bytes())
    return path


class Door:
    """The server. A client that asks for no name gets a certificate for the loopback address."""

    def __init__(self, authority: Authority, folder: Path) -> None:
        self._authority, self._folder = authority, folder
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._context = self._context_for(LOOPBACK)
        self._context.sni_callback = self._choose
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, name="door", daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _context_for(self, host: str) -> ssl.SSLContext:
        if host not in self._contexts:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(write_leaf(self._authority, self._folder, host))
            self._contexts[host] = context
        return self._contexts[host]

    def _choose(self, connection: ssl.SSLObject, host: str | None, _: ssl.SSLContext) -> None:
        if host is not None:
            connection.context = self._context_for(host)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        try:
            connection.settimeout(10)
            with self._context.wrap_socket(connection, server_side=True) as tls:
                tls.recv(65536)
                tls.sendall(_ANSWER)
        except OSError:
            connection.close()


# ---- Programs --------------------------------------------------------------------------------------------


def python(root: Path, port: int, hosts: Iterable[str], flags: int = 0) -> Verdicts:
    verdicts = {}
    context = ssl.create_default_context(cafile=str(root))
    context.verify_flags |= ssl.VerifyFlags(flags)
    for host in hosts:
        try:
            with (
                socket.create_connection((LOOPBACK, port), timeout=10) as plain,
                context.wrap_socket(plain, server_hostname=host),
            ):
                verdicts[host] = ""
        except ssl.SSLCertVerificationError as error:
            verdicts[host] = error.verify_message
    return verdicts


def strict_python(root: Path, port: int, hosts: Iterable[str]) -> Verdicts:
    """As Python 3.13 and later verify by default."""
    return python(root, port, hosts, ssl.VERIFY_X509_STRICT)


def curl(root: Path, port: int, hosts: Iterable[str]) -> Verdicts:
    """OpenSSL, GnuTLS or another, as this system's curl was built."""
    verdicts = {}
    for host in hosts:
        url = f"https://{host}:{port}/"
        options = ("--noproxy", "*", "--connect-to", f"::{LOOPBACK}:{port}", "--cacert", str(root))
        done = _run(("curl", "-sS", "-o", os.devnull, *options, url))
        verdicts[host] = "" if done.returncode == 0 else done.stderr
    return verdicts


def git(root: Path, port: int, hosts: Iterable[str]) -> Verdicts:
    """On Debian git speaks through GnuTLS."""
    verdicts = {}
    for host in hosts:
        url = f"https://{host}:{port}/repository"
        route = ("-c", f"http.curloptResolve={host}:{port}:{LOOPBACK}", "-c", "http.proxy=")
        done = _run(("git", *route, "ls-remote", url), GIT_TERMINAL_PROMPT="0", GIT_SSL_CAINFO=str(root))
        # The door is no repository: git says so once it has believed the certificate.
        believed = "not valid: is this a git repository" in done.stderr or done.returncode == 0
        verdicts[host] = "" if believed else done.stderr
    return verdicts


_NODE = """
const https = require('https')
const [port, hosts] = JSON.parse(process.argv[1])
const ask = host => new Promise(resolve => {
  const options = { host: '127.0.0.1', port, agent: false }
  if (!/^[0-9.]+$/.test(host)) options.servername = host
  https.get(options, answer => { answer.resume(); resolve([host, '']) })
    .on('error', error => resolve([host, error.code + ' ' + error.message]))
})
Promise.all(hosts.map(ask)).then(all => console.log(JSON.stringify(Object.fromEntries(all))))
"""


def node(root: Path, port: int, hosts: Iterable[str]) -> Verdicts:
    done = _run(("node", "-e", _NODE, json.dumps([port, list(hosts)])), NODE_EXTRA_CA_CERTS=str(root))
    verdicts: Verdicts = json.loads(done.stdout or "{}")
    assert verdicts, done.stderr
    return verdicts


_JAVA = """
import java.net.Socket;
import java.util.List;
import javax.net.ssl.*;

public class Ask {
  public static void main(String[] arguments) throws Exception {
    for (int i = 1; i < arguments.length; i++) {
      String said = "";
      try (Socket plain = new Socket("127.0.0.1", Integer.parseInt(arguments[0]))) {
        SSLSocketFactory factory = (SSLSocketFactory) SSLSocketFactory.getDefault();
        SSLSocket socket = (SSLSocket) factory.createSocket(plain, arguments[i], 443, true);
        SSLParameters parameters = socket.getSSLParameters();
        parameters.setEndpointIdentificationAlgorithm("HTTPS");
        socket.setSSLParameters(parameters);
        socket.startHandshake();
      } catch (SSLException error) {
        said = String.valueOf(error.getMessage());
      }
      System.out.println(arguments[i] + "\\t" + said);
    }
  }
}
"""


def java(root: Path, port: int, hosts: Iterable[str]) -> Verdicts:
    """Java does not look at what a trust anchor's own certificate limits."""
    source, store = root.with_name("Ask.java"), root.with_name("trusted.p12")
    source.write_text(_JAVA)
    trust = ("-alias", "reasoning-fix", "-file", str(root), "-keystore", str(store), "-storepass", "changeit")
    if not store.exists():
        made = _run(("keytool", "-importcert", "-noprompt", *trust))
        assert made.returncode == 0, made.stdout
    options = (
        f"-Djavax.net.ssl.trustStore={store}",
        "-Djavax.net.ssl.trustStorePassword=changeit",
    )
    done = _run(("java", *options, str(source), str(port), *hosts))
    assert done.returncode == 0, done.stderr
    lines = [line.partition("\t") for line in done.stdout.splitlines()]
    return {host: said for host, _, said in lines}


type Program = Callable[[Path, int, Iterable[str]], Verdicts]

# Name -> the commands it needs, and how it is asked.
PROGRAMS: Mapping[str, tuple[tuple[str, ...], Program]] = {
    "python": ((), python),
    "python, strict": ((), strict_python),
    "curl": (("curl",), curl),
    "git": (("git",), git),
    "node": (("node",), node),
    "java": (("java", "keytool"), java),
}


def missing(commands: Iterable[str]) -> str:
    """The first of these commands that is not here, or ""."""
    return next((command for command in commands if shutil.which(command) is None), "")


def _run(words: tuple[str, ...], **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    return subprocess.run(
        words, capture_output=True, text=True, env=environment | variables, timeout=_SECONDS, check=False
    )
