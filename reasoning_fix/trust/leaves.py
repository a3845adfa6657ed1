"""Keeps what mitmproxy signs within the limits of the CA.

mitmproxy puts every name of the upstream's own certificate on the one it shows to the client, and the address
it connects to (mitmproxy/addons/tlsconfig.py, get_cert). A verifier refuses a certificate that has a single
name outside the constraints of its CA (RFC 5280, 6.1.3), and most providers' certificates have such names:
their apex domain, a wildcard for all of it. So names that the CA may not speak for are left out.
"""

import logging

from mitmproxy import certs, ctx, tls

from reasoning_fix.trust.authority import permits, permitted_by

logger = logging.getLogger(__name__)


class PermittedLeaves:
    """Replaces certificates that the CA's own constraints forbid; without constraints it does nothing."""

    def __init__(self) -> None:
        self._store: certs.CertStore | None = None
        self._permitted: tuple[str, ...] | None = None
        self._told: set[str] = set()

    def tls_start_client(self, data: tls.TlsData) -> None:
        """Runs after mitmproxy's own hook, which has put a certificate on the connection."""
        if data.ssl_conn is None:
            return
        permitted = self._constraints()
        if permitted is None:
            return
        shown = data.ssl_conn.get_certificate(as_cryptography=True)
        if shown is None:
            return
        leaf = certs.Cert(shown)
        names = [name for name in leaf.altnames if permits(permitted, str(name.value))]
        if len(names) == len(leaf.altnames):
            return
        if not names:
            self._tell(data)
            return
        assert self._store is not None
        crls = leaf.crl_distribution_points
        entry = self._store.get_cert(str(names[0].value), names, leaf.organization, crls[0] if crls else None)
        data.ssl_conn.use_certificate(entry.cert.to_cryptography())

    def _constraints(self) -> tuple[str, ...] | None:
        """What the CA in use permits; read again when mitmproxy has loaded another."""
        store: certs.CertStore = ctx.master.addons.get("tlsconfig").certstore
        if store is not self._store:
            self._store, self._permitted = store, permitted_by(store.default_ca.to_cryptography())
        return self._permitted

    def _tell(self, data: tls.TlsData) -> None:
        """Once per host: the client is about to refuse, and cannot know why."""
        address = data.context.server.address
        host = data.context.client.sni or (address[0] if address else "")
        if host not in self._told and len(self._told) < 1000:
            self._told.add(host)
            logger.warning(
                "%s: the CA does not cover this host, so clients refuse the connection. Run "
                "`reasoning-fix ca create --renew`, then start the proxy again.",
                host,
            )
