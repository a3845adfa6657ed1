"""The counts in Prometheus' text format: http://reasoning.fix/metrics.

Source of the format: https://prometheus.io/docs/instrumenting/exposition_formats/. Counters are those of this
process, by provider, model and client; names follow https://prometheus.io/docs/practices/naming/.
"""

from collections.abc import Iterator, Mapping

from reasoning_fix.proxy.health import Health
from reasoning_fix.proxy.stats import counts
from reasoning_fix.proxy.stats.book import Counts
from reasoning_fix.proxy.stats.counts import Count

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "reasoning_fix_"

# The name of a metric, what it counts, and its name in the book.
COUNTERS: tuple[tuple[str, str, Count], ...] = (
    ("requests_total", "Chat requests that were read.", Count.REQUESTS),
    ("recorded_turns_total", "Turns put on record from answers.", Count.RECORDED),
    ("learned_turns_total", "Turns put on record from what clients sent.", Count.LEARNED),
    ("restored_turns_total", "Turns given back their reasoning, by evidence.", Count.RESTORED),
    ("filled_turns_total", "Turns given a placeholder, since they are not on record.", Count.FILLED),
    ("avoided_refusals_total", "Requests answered that would have been refused.", Count.AVOIDED),
    ("refused_requests_total", "Requests that were refused, by what the refusal means.", Count.REFUSED),
    ("repaired_requests_total", "Refused requests that were answered when sent again.", Count.REPAIRED),
    ("lessons_total", "Lessons learned from refusals.", Count.LESSONS),
    ("added_bytes_total", "Bytes that requests grew by.", Count.ADDED),
    ("prompt_tokens_total", "Tokens of prompts, as providers report them.", Count.PROMPT),
    ("cached_prompt_tokens_total", "Those of them read from the provider's cache.", Count.CACHED),
    ("answer_tokens_total", "Tokens of answers.", Count.ANSWER),
    ("thought_tokens_total", "Those of them that are reasoning.", Count.THOUGHT),
    ("kept_requests_total", "Requests whose client sent its reasoning back.", Count.KEPT),
    ("blanked_requests_total", "Requests whose client blanked reasoning.", Count.BLANKED),
    ("dropped_requests_total", "Requests whose client dropped reasoning.", Count.DROPPED),
)
_KIND_LABELS = {Count.RESTORED: "evidence", Count.REFUSED: "meaning"}


def exposition(total: Counts, health: Health) -> str:
    """The page: `total` is what was counted since the start."""
    return "".join(f"{line}\n" for line in _lines(total, health))


def _lines(total: Counts, health: Health) -> Iterator[str]:
    for name, text, counted in COUNTERS:
        yield from _head(name, text, "counter")
        label = _KIND_LABELS.get(counted)
        prefix = counts.by(counted, "")
        for line, some in sorted(total.items()):
            labels = {"provider": line.provider, "model": line.model, "client": line.client}
            if label is None:
                if some[counted]:
                    yield _sample(name, labels, some[counted])
                continue
            for what, number in sorted(some.items()):
                if what.startswith(prefix):
                    yield _sample(name, labels | {label: what.removeprefix(prefix)}, number)
    yield from _head("uptime_seconds", "How long the process has run.", "gauge")
    yield _sample("uptime_seconds", {}, health.uptime_seconds)
    yield from _head("store_healthy", "Whether the store can be read and written.", "gauge")
    yield _sample("store_healthy", {"kind": health.store.kind}, int(health.store.healthy))
    yield from _head("build_info", "The versions that run.", "gauge")
    versions = {"version": health.version, "mitmproxy": health.mitmproxy, "python": health.python}
    yield _sample("build_info", versions, 1)


def _head(name: str, text: str, kind: str) -> tuple[str, str]:
    return f"# HELP {_PREFIX}{name} {text}", f"# TYPE {_PREFIX}{name} {kind}"


def _sample(name: str, labels: Mapping[str, str], value: float) -> str:
    inside = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
    return f"{_PREFIX}{name}{{{inside}}} {value}" if inside else f"{_PREFIX}{name} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
