"""The script that `mitmdump -s` loads: makes the package importable from any directory, nothing else.

mitmproxy puts this folder at the front of sys.path and leaves it there; the package's parent goes to the end
instead, so that the one real package is imported and no module of it shadows another.
"""

import sys
from pathlib import Path

_package = Path(__file__).resolve().parent
sys.path[:] = [entry for entry in sys.path if not entry or Path(entry).resolve() != _package]
if str(_package.parent) not in sys.path:
    sys.path.append(str(_package.parent))

from reasoning_fix.proxy.interceptor import Interceptor  # noqa: E402
from reasoning_fix.proxy.pages import Pages  # noqa: E402
from reasoning_fix.proxy.watchdog import Watchdog  # noqa: E402

_interceptor = Interceptor()
addons = [Pages(_interceptor.store_state, _interceptor.book), Watchdog(), _interceptor]
