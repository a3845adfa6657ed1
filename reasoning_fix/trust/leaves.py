"""Keeps what mitmproxy signs within the limits of the CA.

mitmproxy puts every name of the upstream's own certificate on the one it shows to the client, and the address
it connects to (mitmproxy/addons/tlsconfig.py, get_cert). A verifier refuses a certificate that has a single
name outside the constraints of its CA (RFC 5280, 6.1.3), and most providers' certificates have such names:
their apex domain, a wildcard for all of it. So names that the CA may not speak for are left out.
"""

import logging

from cryptography import x509
from mitmproxy import certs, connection, ctx, tls
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import quic

from reasoning_fix.trust.authority import permits, permitted_by

logger = logging.getLogger(__name__)

_HOSTS_TOLD = 1000


class PermittedLeaves:
    """Replaces certificates that the CA's own constraints forbid; without constraints it does nothing.

    Both hooks run after mitmproxy's own, which have chosen a certificate.
    """

    def __init__(self) -> None:
        self._store: certs.CertStore | None = None
        self._permitted: tuple[str, ...] | None = None
        self._told: set[str] = set()

    def tls_start_client(self, data: tls.TlsData) -> None:
        if data.ssl_conn is None:
            return
        shown = data.ssl_conn.get_certificate(as_cryptography=True)
        if shown is not None and (better := self._better(shown, data.context)) is not None:
            data.ssl_conn.use_certificate(better)

    def quic_start_client(self, data: quic.QuicTlsData) -> None:
        shown = data.settings.certificate if data.settings is not None else None
        if shown is not None and (better := self._better(shown, data.context)) is not None:
            assert data.settings is not None
            data.settings.certificate = better

    def _better(self, shown: x509.Certificate, context: Context) -> x509.Certificate | None:
        """The same certificate with only the names that are permitted; None where it is good, or hopeless."""
        store, permitted = self._constraints()
        if permitted is None:
            return None
        leaf = certs.Cert(shown)
        names = [name for name in leaf.altnames if permits(permitted, str(name.value))]
        if len(names) == len(leaf.altnames):
            return None
        if not names:
            self._tell(context.client, context.server)
            return None
        # The CRL stays: Windows asks for one where the upstream's certificate had one.
        crl = next(iter(leaf.crl_distribution_points), None)
        return store.get_cert(str(names[0].value), names, leaf.organization, crl).cert.to_cryptography()

    def _constraints(self) -> tuple[certs.CertStore, tuple[str, ...] | None]:
        """mitmproxy's CA and what it permits, read again when mitmproxy has loaded another."""
        store: certs.CertStore = ctx.master.addons.get("tlsconfig").certstore  # type: ignore[no-untyped-call]
        if store is not self._store:
            self._store, self._permitted = store, permitted_by(store.default_ca.to_cryptography())
        return store, self._permitted

    def _tell(self, client: connection.Client, server: connection.Server) -> None:
        """Once per host: the client is about to refuse, and cannot say why."""
        host = client.sni or (server.address[0] if server.address else "")
        if host not in self._told and len(self._told) < _HOSTS_TOLD:
            self._told.add(host)
            logger.warning(
                "%s: the CA does not cover this host, so clients refuse the connection. Run "
                "`reasoning-fix ca create --renew`, then start the proxy again.",
                host,
            )
