"""Say why each turn in a saved flow file was or was not restored.

The file is replayed offline, in an empty store, up to each request: candidates are the turns whose answers
the file holds. For a request in a proxy that runs, use its command `reasoning_fix.explain @focus`.

  reasoning-fix explain flows.mitm --flow 3         one request (flows are counted from 1)
  reasoning-fix explain flows.mitm --no-texts       without the first line of each turn

Exit codes: 0 done; 2 used wrongly, or no flow file that can be read.
"""

import argparse

from reasoning_fix.captures import flow_files
from reasoning_fix.captures.replaying import replay
from reasoning_fix.cli import UsageError, shared


def add_arguments(parser: argparse.ArgumentParser) -> None:
    shared.add_flow_file(parser)
    parser.add_argument("--flow", type=int, metavar="N", help="only this flow of the file, counted from 1")
    parser.add_argument("--json", action="store_true", help="the same for scripts")
    parser.add_argument(
        "--texts",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="show the first line of each turn, shortened (default: yes)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Explain the file, or one flow of it; returns the exit code."""
    flows = flow_files.load(arguments.file.expanduser())
    number: int | None = arguments.flow
    if number is not None and not 1 <= number <= len(flows):
        raise UsageError(f"there is no flow {number} in {arguments.file}: it holds {len(flows)}.")
    played = replay(flows, shared.table(arguments)).requests
    chosen = [one for one in played if number in (None, one.number)]
    if number is not None and not chosen:
        raise UsageError(f"flow {number} of {arguments.file} is not a chat request of a known provider.")
    if not arguments.texts:
        for one in chosen:
            one.explanation = one.explanation.without_texts()
    if arguments.json:
        shared.print_json(chosen)
        return 0
    for one in chosen:
        first, *rest = one.explanation.lines(arguments.texts)
        print("\n".join([f"#{one.number} {first}", *rest, *(f"  note: {text}" for text in one.remarks)]))
    if not chosen:
        print(f"no chat request of a known provider in {len(flows)} flows")
    return 0
