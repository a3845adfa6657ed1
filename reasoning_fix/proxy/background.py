"""Long work beside the event loop, in one thread, so that streams on their way need not wait for it.

Python lets a thread that computes go on for 5 milliseconds before another one gets its turn, and the event
loop loses its turn at every system call: while there is such work, turns are short. One thread for all of it:
more would only take turns from the loop.
"""

import asyncio
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

# Bodies of more bytes than this are worked on in a thread, so that other traffic need not wait (1 MB takes 5
# to 20 ms); handing one over takes 0.1 ms.
LARGE = 256 * 1024
_TURN_SECONDS = 0.0005

_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="reasoning-fix large requests")


def begin[Result](work: Callable[[], Result]) -> "Future[Result]":
    """Have it done after what was begun before."""
    return _thread.submit(_do, work)


async def done[Result](work: Callable[[], Result]) -> Result:
    """Have it done, and wait for it. Raises what it raises."""
    return await asyncio.wrap_future(begin(work))


async def done_if_large[Result](work: Callable[[], Result], size: int) -> Result:
    """Have work on a body of so many bytes done: at once where it is short, else as `done`."""
    return await done(work) if size > LARGE else work()


def _do[Result](work: Callable[[], Result]) -> Result:
    usual = sys.getswitchinterval()
    sys.setswitchinterval(min(usual, _TURN_SECONDS))
    try:
        return work()
    finally:
        sys.setswitchinterval(usual)
