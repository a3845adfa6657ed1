"""Run one program through the proxy; nothing else on the machine is changed.

    reasoning-fix exec -- opencode
    reasoning-fix exec -- python my_agent.py --verbose

A proxy that runs already is used; else one is started on a free port, and ends with the program. It writes its
log to exec.log in the user log directory (~/.local/state/reasoning-fix/log on Linux). The program gets the
terminal, its signals and its exit code as if it were started directly, and these variables besides:
`reasoning-fix env --json` shows them.

If HTTPS_PROXY, ALL_PROXY or HTTP_PROXY is set, the proxy started here goes through that one (http or https,
not socks), with its name and password, and reaches the hosts in NO_PROXY directly.

Exit codes of its own: 125 the proxy did not start, 126 the program cannot be run, 127 there is no such program.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NoReturn

import platformdirs

from reasoning_fix.cli import UsageError
from reasoning_fix.cli.words import leading
from reasoning_fix.environment import Values, undone, variables
from reasoning_fix.running import bundle, probe, upstream
from reasoning_fix.running.attached_line import READY
from reasoning_fix.running.given import Given, look_ahead
from reasoning_fix.running.prepared import prepare

_FLAGS = ("--fresh", "-h", "--help")
_VALUED = ("--set", "--port", "--confdir")
_LOG_BYTES = 1_000_000
_NOT_STARTED, _NOT_RUNNABLE, _NOT_FOUND = 125, 126, 127
# -P -c, and not -m: a module in the folder the person is in must not take the place of one of ours.
_RUN = "import sys; sys.path.append(sys.argv.pop(1)); from reasoning_fix.cli import main; sys.exit(main())"
