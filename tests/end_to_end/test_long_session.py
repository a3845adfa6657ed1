"""A long session in mitmweb: what is kept of its flows is bounded, and so is the memory.

600 flows in the usual run; LONG_SESSION_FLOWS=5000 makes it as long as a working day.
"""

import http.client
import json
import os
import ssl
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.console import Command, Home, free_ports
from tests.provider.providers import DEEPSEEK
from tests.provider.simulator import Simulator
from tests.provider.turns import Answer, Text, Thought

FLOWS = int(os.environ.get("LONG_SESSION_FLOWS", "600"))
KEPT = 100
TEXT = "All dry, in every city that you name. " * 200


def resident_megabytes(pid: int) -> float:
    (line,) = (x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_memory_is_flat_over_a_long_session(tmp_path: Path, provider: Simulator) -> None:
    home = Home(tmp_path / "home", provider)
    (page,) = free_ports(1)
    provider.improvise = lambda asked: Answer((Thought("I know that. " * 200), Text(TEXT)))
    running = Command(
        home, "web", "--keep", str(KEPT), "-p", "0", "--web-port", str(page), "--no-web-open-browser"
    )
    try:
        address = urlsplit(running.wait_for(r"the proxy listens at (\S+)")[1])
        assert address.hostname is not None
        trusted = ssl.create_default_context(cafile=str(home.ca))
        connection = http.client.HTTPSConnection(address.hostname, address.port, context=trusted, timeout=30)
        connection.set_tunnel(DEEPSEEK.host, 443)
        sizes = []
        for number in range(FLOWS):
            opening = {"role": "user", "content": f"{number}: is it dry?"}
            history = [opening, {"role": "assistant", "content": TEXT}, {"role": "user", "content": "sure?"}]
            body = {
                "model": DEEPSEEK.model,
                "stream": number % 20 == 0,
                "messages": history[: 1 + 2 * (number % 2)],
            }
            headers = {"authorization": "Bearer sk-long", "content-type": "application/json"}
            connection.request("POST", DEEPSEEK.chat_path, json.dumps(body), headers)
            response = connection.getresponse()
            assert response.status == 200 and response.read()
            if number + 1 in (FLOWS // 2, FLOWS):
                sizes.append(resident_megabytes(running.process.pid))
            provider.requests.clear()
        connection.close()
    finally:
        running.stop()
    assert sizes[1] - sizes[0] < 15, f"grew from {sizes[0]:.0f} to {sizes[1]:.0f} MB"
