"""Keeps what mitmproxy signs within the limits of the CA.

mitmproxy puts every name of the upstream's own certificate on the one it shows to the client, and the address
it connects to (mitmproxy/addons/tlsconfig.py, get_cert). A verifier refuses a certificate that has a single
name outside the constraints of its CA (RFC 5280, 6.1.3), and most providers' certificates have such names:
their apex domain, a wildcard for all of it. So names that the CA may not speak for are left out.
"""

import logging
from collections.abc import Iterable

from cryptography import x509
from mitmproxy import certs, ctx, tls

from reasoning_fix.machine.trust.authority import permits, permitted_by

logger = logging.getLogger(__name__)

_HOSTS_TOLD = 1000


class PermittedStore(certs.CertStore):
    """mitmproxy's store of certificates, with a CA that permits these domains and networks only."""

    def __init__(self, store: certs.CertStore, permitted: tuple[str, ...]) -> None:
        super().__init__(
            store.default_privatekey,
            store.default_ca,
            store.default_chain_file,
            store.default_crl,
            store.dhparams,
        )
        # What the person gave with `--certs` is in there.
        self.certs = store.certs
        self.permitted = permitted

    def get_cert(
        self,
        commonname: str | None,
        sans: Iterable[x509.GeneralName],
        organization: str | None = None,
        crl_url: str | None = None,
    ) -> certs.CertStoreEntry:
        given = list(sans)
        names = [name for name in given if permits(self.permitted, str(name.value))]
        if not names:
            return super().get_cert(commonname, given, organization, crl_url)
        # Without a DNS name beside it, OpenSSL holds a common name to be one, and finds it is not permitted.
        first = next((str(name.value) for name in names if isinstance(name, x509.DNSName)), None)
        return super().get_cert(first, names, organization, crl_url)


class PermittedLeaves:
    """Puts a `PermittedStore` in the place of mitmproxy's own, where the CA has constraints.

    At each client's hello, which comes before any certificate is asked for: mitmproxy loads its store when
    options change, and calls a script's hooks before its own.
    """

    def __init__(self) -> None:
        self._unlimited: certs.CertStore | None = None
        self._told: set[str] = set()

    def tls_clienthello(self, data: tls.ClientHelloData) -> None:
        if data.ignore_connection:
            return
        config = ctx.master.addons.get("tlsconfig")  # type: ignore[no-untyped-call]
        if config is None:
            return
        store: certs.CertStore = config.certstore
        if store is self._unlimited:
            return
        if not isinstance(store, PermittedStore):
            permitted = permitted_by(store.default_ca.to_cryptography())
            if permitted is None:
                self._unlimited = store
                return
            config.certstore = store = PermittedStore(store, permitted)
        address = data.context.server.address
        host = data.client_hello.sni or (address[0] if address else "")
        if not permits(store.permitted, host):
            self._tell(host)

    def _tell(self, host: str) -> None:
        """Once per host: the client is about to refuse, and cannot say why."""
        if host not in self._told and len(self._told) < _HOSTS_TOLD:
            self._told.add(host)
            logger.warning(
                "%s: the CA does not cover this host, so clients refuse the connection. Run "
                "`reasoning-fix ca create --renew`, then start the proxy again.",
                host,
            )
