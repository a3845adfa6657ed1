"""Make a copy of a flow file that can be shared: no credential, no text, and yet the same matches.

Words become other words of the same length, equal where they were equal; ids, keys and signatures likewise.
Roles, types, names of members, tools and models, token counts and times stay. Only chat requests of known
providers are kept, as the client sent them. What was chosen for what is written nowhere.

  reasoning-fix redact flows.mitm shared.mitm       make the copy; it is replayed to see that nothing changed
  reasoning-fix replay shared.mitm                  what others will see

Look at the copy before you share it: names of tools, their properties and models are not replaced.

Exit codes: 0 done; 1 the copy is written but comes out otherwise in a replay; 2 used wrongly, or no flow file
that can be read.
"""

import argparse
import io
import sys
from pathlib import Path

from mitmproxy.io import FlowWriter

from reasoning_fix.captures import flow_files
from reasoning_fix.captures.redacting.flows import redact
from reasoning_fix.captures.replaying import replay
from reasoning_fix.cli import UsageError, shared
from reasoning_fix.store import private_files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    shared.add_flow_file(parser)
    parser.add_argument("out", type=Path, metavar="OUT", help="the file to write; it must not exist yet")


def run(arguments: argparse.Namespace) -> int:
    """Write the copy; returns the exit code."""
    flows, table = flow_files.load(arguments.file.expanduser()), shared.table(arguments)
    redacted = redact(flows, table)
    if not redacted.flows:
        raise UsageError(f"{arguments.file} holds no chat request of a known provider; nothing was written.")
    content = io.BytesIO()
    writer = FlowWriter(content)  # type: ignore[no-untyped-call]
    for one in redacted.flows:
        writer.add(one)
    out: Path = arguments.out.expanduser()
    try:
        if not private_files.place(out, content.getvalue()):
            raise UsageError(f"{out} exists already; name a new file.")
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror or error}") from None
    before, after = replay(flows, table), replay(redacted.flows, table)
    same = [one.now for one in before.requests] == [one.now for one in after.requests]
    left = f"; {redacted.left_out} other flows were left out" if redacted.left_out else ""
    print(f"{out}: {len(redacted.flows)} chat requests{left}. {after.summary.text()}")
    if not same:
        print("reasoning-fix: in a replay the copy comes out otherwise than the original", file=sys.stderr)
    return 0 if same else 1
