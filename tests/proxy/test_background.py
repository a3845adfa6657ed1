"""Long work beside the event loop."""

import asyncio
import sys
import threading

import pytest

from reasoning_fix.proxy import background


def test_the_event_loop_goes_on_while_it_is_done() -> None:
    seen = threading.Event()

    def work() -> tuple[bool, str]:
        return seen.wait(10), threading.current_thread().name

    async def main() -> tuple[bool, str]:
        asyncio.get_running_loop().call_soon(seen.set)
        return await background.done(work)

    was_seen, name = asyncio.run(main())
    assert was_seen
    assert name.startswith("reasoning-fix")


def test_one_after_the_other() -> None:
    order: list[int] = []
    for future in [background.begin(lambda number=number: order.append(number)) for number in range(20)]:  # type: ignore[misc]
        future.result(10)
    assert order == list(range(20))


def test_turns_are_short_while_there_is_such_work_and_no_longer() -> None:
    usual = sys.getswitchinterval()
    assert background.begin(sys.getswitchinterval).result(10) == pytest.approx(0.0005, rel=0.01)
    assert background.begin(lambda: None).result(10) is None
    assert sys.getswitchinterval() == usual


def test_a_fault_is_for_the_one_who_waits() -> None:
    with pytest.raises(ZeroDivisionError):
        asyncio.run(background.done(lambda: 1 // 0))
    assert sys.getswitchinterval() != 0.0005
