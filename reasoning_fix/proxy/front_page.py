"""The page at http://reasoning.fix/: the proxy at a glance, in HTML and SVG that need no script."""

import html
from collections.abc import Iterable

from reasoning_fix.proxy.health import HOST, Health
from reasoning_fix.proxy.stats.book import Counts
from reasoning_fix.proxy.stats.pictures import STYLE, pictures
from reasoning_fix.proxy.stats.recent import Entry
from reasoning_fix.proxy.stats.tables import LATEST, cells

DAYS = 14
_SHOWN = 15
_REFRESH_SECONDS = 5


def page(health: Health, found: Counts, latest: Iterable[Entry], today: str, refreshes: bool) -> str:
    """The whole page: `found` are the counts of the last DAYS days, `latest` requests oldest first."""
    refresh = f'<meta http-equiv="refresh" content="{_REFRESH_SECONDS}">' if refreshes else ""
    still = '<a href="/?still">Stop refreshing</a>'
    live = f'<a href="/">Refresh every {_REFRESH_SECONDS} s</a>'
    return _PAGE.format(
        status=html.escape(health.status),
        style=STYLE,
        refresh=refresh,
        link=still if refreshes else live,
        live=_live(list(latest)[-_SHOWN:]),
        pictures=pictures(found, DAYS, today),
        about=_about(health),
        host=HOST,
    )


def _live(entries: list[Entry]) -> str:
    if not entries:
        return '<p class="none">Nothing yet. Requests appear here as they pass.</p>'
    lines = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells(entry)) + "</tr>\n"
        for entry in reversed(entries)
    )
    heads = "".join(f'<th scope="col">{name}</th>' for name in LATEST)
    return (
        '<div class="wide" tabindex="0" role="region" aria-label="The latest requests"><table class="live">'
        f"<thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def _about(health: Health) -> str:
    done = health.counts
    kept = "only while the proxy runs, in memory" if health.store.kind == "memory" else health.store.path
    rows = {
        "version": f"{health.version} (mitmproxy {health.mitmproxy}, Python {health.python})",
        "running for": _duration(health.uptime_seconds),
        "process": str(health.pid),
        "listening": ", ".join(health.listening),
        "chat requests": f"{done.requests}",
        "turns": f"{done.recorded} recorded, {done.restored} restored, {done.filled} filled",
        "store": f"{kept} ({'healthy' if health.store.healthy else 'not healthy: see the log'})",
        "CA": f"SHA-256 {health.ca_sha256}, until {health.ca_expires}" if health.ca_sha256 else "missing",
    }
    return "\n".join(
        f'<tr><th scope="row">{html.escape(name)}</th><td>{html.escape(value)}</td></tr>'
        for name, value in rows.items()
    )


def _duration(seconds: float) -> str:
    minutes, whole = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (whole, "s")]
    return " ".join(f"{count} {unit}" for count, unit in parts if count) or "0 s"


_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
{refresh}
<title>reasoning-fix: {status}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }}
th {{ text-align: left; vertical-align: top; padding-right: 1.5rem; white-space: nowrap; font-weight: 600 }}
td {{ overflow-wrap: anywhere }}
.wide {{ overflow-x: auto }}
.live {{ border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; min-width: 44rem }}
.live th, .live td {{ padding: .15rem 1rem .15rem 0; border-bottom: 1px solid var(--rest) }}
.live td {{ overflow-wrap: normal }}
code {{ overflow-wrap: anywhere }}
{style}
</style>
<h1>reasoning-fix: {status}</h1>
<h2>The latest requests</h2>
{live}
<p>{link}</p>
<h2>The last two weeks</h2>
{pictures}
<h2>This proxy</h2>
<table>
{about}
</table>
<h2>Trust its CA</h2>
<p>The proxy decrypts provider hosts only, with certificates of its own CA:
<a href="/cert.pem">cert.pem</a> (most programs), <a href="/cert.crt">cert.crt</a> (Windows, Android).
Compare the fingerprint above with <code>reasoning-fix ca show</code> before you trust it.</p>
<ul>
<li>One program: <code>reasoning-fix exec -- PROGRAM</code> sets everything it needs.</li>
<li>Every program of this user: <code>reasoning-fix ca install</code> (undo: <code>ca uninstall</code>).</li>
<li>By hand, per system and runtime: certs.md, beside the README.</li>
<li>Something does not work: <code>reasoning-fix doctor</code> names it and the fix.</li>
</ul>
<p>For programs: <a href="/health">http://{host}/health</a>, <a href="/recent">/recent</a> and
<a href="/metrics">/metrics</a> (Prometheus). In a terminal: <code>reasoning-fix watch</code>.</p>
</html>
"""
