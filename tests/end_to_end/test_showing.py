"""`reasoning_show` by a real proxy and the official library: what a person sees, what the provider gets."""

from pathlib import Path
from typing import Any

import openai
import pytest

from tests.conftest import StartProxy
from tests.mitmdump import Proxy, client
from tests.provider.simulator import DEEPSEEK, Simulator

TOOLS: Any = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
SHOW = ("--set", "reasoning_show=deepseek")
TURNS = 12


def script(provider: Simulator) -> None:
    for n in range(TURNS):
        calls = [(f"call_00_{n:024d}", "look", f'{{"n": {n}}}')] if n % 3 else []
        text = "" if n % 3 == 1 else f"I look for the {n}th time.\n\nThen on."
        provider.say(reasoning=f"Thought {n}:\n\n> look\n</details>\nagain.", text=text, calls=calls)


def ask(api: openai.OpenAI, history: list[Any], streamed: bool) -> str:
    """One turn of a client that keeps content and calls; the content as its person sees it."""
    create: Any = api.chat.completions.create
    given = {"model": DEEPSEEK.model, "messages": history, "tools": TOOLS}
    content, calls = "", []
    if streamed:
        for chunk in create(**given, stream=True):
            for choice in chunk.choices:
                content += choice.delta.content or ""
                calls += [call for call in choice.delta.tool_calls or () if call.id]
                for call in choice.delta.tool_calls or ():
                    if not call.id:
                        calls[-1].function.arguments += call.function.arguments
    else:
        message = create(**given).choices[0].message
        content, calls = message.content or "", message.tool_calls or []
    said: dict[str, Any] = {"role": "assistant", "content": content}
    if calls:
        said["tool_calls"] = [
            {
                "id": c.id,
                "type": "function",
                "function": {"name": c.function.name, "arguments": c.function.arguments},
            }
            for c in calls
        ]
    history.append(said)
    history += [{"role": "tool", "tool_call_id": c.id, "content": "there"} for c in calls]
    if not calls:
        history.append({"role": "user", "content": "Go on."})
    return content


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("style", ["details", "quote"])
def test_thoughts_are_seen_and_the_provider_gets_each_turn_as_it_said_it(
    start_proxy: StartProxy, provider: Simulator, streamed: bool, style: str
) -> None:
    proxy = start_proxy(*SHOW, "--set", f"reasoning_show_as={style}")
    script(provider)
    history: list[Any] = [{"role": "user", "content": "Look."}]
    for n in range(TURNS):
        content = ask(client(proxy, DEEPSEEK.host, "sk-show"), history, streamed)
        assert f"Thought {n}:" in content and "<!-- reasoning-fix " in content
        assert provider.requests[-1].verdicts == ["exact"] * n
        said = [m for m in provider.requests[-1].json["messages"] if m["role"] == "assistant"]
        assert not any("reasoning-fix" in (m["content"] or "") for m in said)
        assert [bool(m["content"]) for m in said] == [k % 3 != 1 for k in range(n)]
    proxy.stop()


def test_a_proxy_that_was_started_anew_takes_them_out(
    start_proxy: StartProxy, provider: Simulator, tmp_path: Path
) -> None:
    store = ("--set", f"reasoning_store={tmp_path / 'turns.sqlite3'}")
    script(provider)
    history: list[Any] = [{"role": "user", "content": "Look."}]
    for n in range(4):
        proxy = start_proxy(*SHOW, *store)
        ask(client(proxy, DEEPSEEK.host, "sk-anew"), history, streamed=True)
        assert provider.requests[-1].verdicts == ["exact"] * n
        proxy.stop()


def test_it_is_off_unless_asked_for(proxy: Proxy, start_proxy: StartProxy, provider: Simulator) -> None:
    for one in (proxy, start_proxy("--set", "reasoning_show=kimi")):
        provider.reset()
        script(provider)
        history: list[Any] = [{"role": "user", "content": "Look."}]
        for n in range(4):
            content = ask(client(one, DEEPSEEK.host, "sk-off"), history, streamed=True)
            assert "Thought" not in content
            assert provider.requests[-1].verdicts == ["exact"] * n
