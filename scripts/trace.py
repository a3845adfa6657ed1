"""How far a request and an answer travel through the package: calls from one file to another.

Counted are the calls of a fourth request of a conversation (the first three are remembered by then) and of
its streamed answer, from mitmproxy's hooks on. `python -m scripts.trace` prints the sums, with `--calls` each
pair of files. tests/scripts/test_trace.py holds them to a bound.
"""

import argparse
import asyncio
import json
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

from mitmproxy import http
from mitmproxy.test import taddons, tflow, tutils

import reasoning_fix
from reasoning_fix.proxy.interceptor import Interceptor

PACKAGE = str(Path(reasoning_fix.__file__).parent)
HOST = "api.deepseek.com"
THOUGHT = "Look at the weather first."

type Calls = Counter[tuple[str, str]]


class Tracer:
    """Counts the calls from one file of the package to another while it is on."""

    def __init__(self) -> None:
        self.calls: Calls = Counter()

    def __enter__(self) -> "Tracer":
        sys.setprofile(self._see)
        return self

    def __exit__(self, *of: object) -> None:
        sys.setprofile(None)

    def _see(self, frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and (caller := frame.f_back) is not None:
            one, other = caller.f_code.co_filename, frame.f_code.co_filename
            if one != other and one.startswith(PACKAGE) and other.startswith(PACKAGE):
                self.calls[one.removeprefix(PACKAGE + "/"), other.removeprefix(PACKAGE + "/")] += 1


class Conversation:
    """A client that drops what was thought, and a provider that thinks and calls a tool."""

    def __init__(self, interceptor: Interceptor) -> None:
        self._interceptor = interceptor
        self._history: list[dict[str, Any]] = [{"role": "user", "content": "Do I need an umbrella?"}]
        self._turns = 0

    async def turn(self) -> tuple[Calls, Calls]:
        """One request and its answer."""
        flow = self._flow()
        with Tracer() as request:
            await self._hook("requestheaders", flow)
            await self._hook("request", flow)
        if self._turns:
            assert THOUGHT.encode() in (flow.request.content or b"")
        flow.response = http.Response.make(200, b"", {"content-type": "text/event-stream"})
        # Nothing of a live answer is here before it streams, nor is its length.
        del flow.response.headers["content-length"]
        flow.response.data.content = None
        with Tracer() as answer:
            await self._hook("responseheaders", flow)
            stream = flow.response.stream
            assert callable(stream)
            for chunk in self._chunks():
                stream(chunk)
            await self._hook("response", flow)
        return request.calls, answer.calls

    def _flow(self) -> http.HTTPFlow:
        body = {"model": "deepseek-v4-pro", "stream": True, "tools": [{"type": "function"}]}
        headers = http.Headers(authorization="Bearer sk-one", content_type="application/json")
        request = tutils.treq(
            host=HOST,
            port=443,
            scheme=b"https",
            method=b"POST",
            path=b"/chat/completions",
            headers=headers,
            content=json.dumps(body | {"messages": self._history}).encode(),
        )
        flow: http.HTTPFlow = tflow.tflow(req=request)
        flow.server_conn.address = (HOST, 443)
        return flow

    async def _hook(self, name: str, flow: http.HTTPFlow) -> None:
        done = getattr(self._interceptor, name)(flow)
        if done is not None:
            await done

    def _chunks(self) -> list[bytes]:
        self._turns += 1
        call_id = f"call_00_{self._turns:024d}"
        function = {"name": "get_weather", "arguments": '{"city":"Bern"}'}
        call = {"index": 0, "id": call_id, "type": "function", "function": function}
        deltas = [
            {"reasoning_content": THOUGHT},
            {"reasoning_content": f" {self._turns}"},
            {"content": "I look."},
            {"tool_calls": [call]},
        ]
        self._history += [
            {"role": "assistant", "content": "I look.", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": call_id, "content": "dry"},
        ]
        chunks = [_event({"choices": [{"index": 0, "delta": delta}]}) for delta in deltas]
        end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}
        return [*chunks, _event(end), b"data: [DONE]\n\n"]


def _event(payload: object) -> bytes:
    return b"data: %b\n\n" % json.dumps(payload).encode()


async def trace() -> tuple[Calls, Calls]:
    """The calls of a warm fourth request, and of its streamed answer."""
    interceptor = Interceptor()
    with taddons.context(interceptor) as context:
        context.configure(interceptor, reasoning_store="memory")
        conversation = Conversation(interceptor)
        for _ in range(3):
            await conversation.turn()
        found = await conversation.turn()
        interceptor.done()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--calls", action="store_true", help="each pair of files, with its calls")
    arguments = parser.parse_args()
    for name, calls in zip(("request", "answer"), asyncio.run(trace()), strict=True):
        files = {file for pair in calls for file in pair}
        print(f"{name}: {calls.total()} calls from file to file, through {len(files)} files")
        for (one, other), count in calls.most_common() if arguments.calls else ():
            print(f"  {count:4}  {one} -> {other}")


if __name__ == "__main__":
    main()
