"""Shows a provider's refusal without the proxy and the same conversation with it, on this machine only.

The provider is the simulator of the tests: it speaks TLS on loopback and refuses in the provider's words.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

import openai

from tests.mitmdump import Proxy, client, direct_client
from tests.provider.simulator import DEEPSEEK, Simulator

CALL = ("call_00_9V0vrf86Pc9aelHCJMZqnJBo", "get_weather", '{"city": "Zürich"}')
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]


def converse(provider: Simulator, api: openai.OpenAI) -> bool:
    """A weather question with one tool call, by a client that keeps role, content and tool calls only."""
    provider.reset()
    provider.say(reasoning="The user wants the weather in Zürich: call the tool.", calls=[CALL])
    provider.say(reasoning="21 °C and dry, so no umbrella.", text="21 °C and dry. Leave the umbrella.")
    call_id, name, arguments = CALL
    call = {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
    history: list[dict[str, Any]] = [{"role": "user", "content": "Do I need an umbrella in Zürich?"}]
    create = cast(Any, api.chat.completions.create)
    print(f"  user       {history[0]['content']}")
    for _ in create(model=DEEPSEEK.model, messages=history, tools=TOOLS, stream=True):
        pass
    print(f"  assistant  calls {name}({arguments})        [its reasoning is dropped by the client]")
    history.append({"role": "assistant", "content": "", "tool_calls": [call]})
    history.append({"role": "tool", "tool_call_id": call_id, "content": "21 °C, dry"})
    print("  tool       21 °C, dry")
    try:
        answer = create(model=DEEPSEEK.model, messages=history, tools=TOOLS)
    except openai.BadRequestError as refused:
        print(f"  HTTP 400   {json.loads(refused.response.text)['error']['message']}")
        return False
    print(f"  assistant  {answer.choices[0].message.content}")
    returned = provider.requests[-1].json["messages"][1].get("reasoning_content")
    print(f"  The provider got back: {returned!r} ({provider.requests[-1].verdicts[0]})")
    return True


def main() -> int:
    provider = Simulator().start()
    with tempfile.TemporaryDirectory(prefix="demo-") as home:
        print("Without the proxy:")
        refused = not converse(provider, direct_client(provider, DEEPSEEK.host, "sk-demo"))
        proxy = Proxy(provider, Path(home) / "home")
        print("\nWith the proxy (mitmdump -s reasoning_fix/addon.py):")
        try:
            worked = converse(provider, client(proxy, DEEPSEEK.host, "sk-demo"))
            line = proxy.wait_for(r"restored \d+ of \d+ turns[^\n]*")[0]
            print(f"  The proxy's log: {line}")
        finally:
            proxy.stop()
    provider.close()
    return 0 if refused and worked else 1


if __name__ == "__main__":
    sys.exit(main())
