"""Flow files of mitmproxy: read a whole one, and the order in which its requests came and were answered.

A file that is not a flow file, or is cut short, raises CaptureError, and nothing else does.
"""

from collections.abc import Iterator
from pathlib import Path

from mitmproxy import exceptions, flow
from mitmproxy.io import FlowReader

from reasoning_fix import ReasoningFixError
from reasoning_fix.proxy.chat_request import ChatRequest


class CaptureError(ReasoningFixError, ValueError):
    """The file is not a flow file that can be read; the text says why."""


def load(path: Path) -> list[flow.Flow]:
    """Every flow of a file, in the order of the file. Raises CaptureError."""
    flows: list[flow.Flow] = []
    try:
        with path.open("rb") as file:
            for one in FlowReader(file).stream():
                flows.append(one)
    except OSError as error:
        raise CaptureError(f"{path} cannot be read: {error.strerror or error}") from None
    except exceptions.FlowReadException as error:
        raise CaptureError(_broken(path, len(flows), str(error))) from None
    except Exception as error:  # it reads foreign bytes: any fault is theirs
        raise CaptureError(_broken(path, len(flows), type(error).__name__)) from None
    if not flows:
        raise CaptureError(f"{path} holds no flow; give a file that `mitmdump -w FILE` or mitmweb saved.")
    return flows


def _broken(path: Path, whole: int, reason: str) -> str:
    reason = " ".join(reason.split()).rstrip(".")[:100]
    if whole:
        return f"{path} is damaged or cut short after {whole} flow{'s'[: whole > 1]} ({reason})."
    return (
        f"{path} is not a flow file of mitmproxy ({reason}); give what `mitmdump -w FILE` or mitmweb saved."
    )


def in_order(requests: list[ChatRequest]) -> Iterator[tuple[ChatRequest, bool]]:
    """What happened, as it happened: each request when it came (False), and when it was answered (True).

    What was answered by the time a request began is on record for it.
    """
    events = [(one.begun, 1, one.number, one, False) for one in requests]
    events += [
        (max(one.begun, one.ended), 0 if one.ended > one.begun else 2, one.number, one, True)
        for one in requests
    ]
    for *_, one, is_answer in sorted(events, key=lambda event: event[:3]):
        yield one, is_answer
