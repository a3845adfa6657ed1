"""How far a request and an answer travel through the package is held to what it is today."""

import asyncio

import pytest

from scripts.trace import trace


@pytest.mark.parametrize(("which", "most"), [(0, 64), (1, 54)], ids=["request", "answer"])
def test_the_way_through_gets_no_longer(which: int, most: int) -> None:
    calls = asyncio.run(trace())[which]
    assert calls.total() <= most, calls.most_common()
