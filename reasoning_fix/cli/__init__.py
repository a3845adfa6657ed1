"""The door for a person: the console command `reasoning-fix`, one file per subcommand.

A subcommand is a module of this folder named in `COMMANDS`: its docstring is its `--help` (the indented part
are examples, which follow the options, and then the exit codes), and it has
`add_arguments(parser)` and `run(arguments) -> int` (the exit code: 0 done, 1 found something wrong, 2 used
wrongly). Only the module of the subcommand that was asked for is imported, so that starting is fast. One
that passes words on to another program also has `split(words) -> (its own, the others)`; it finds the others
in `arguments.others`. With `OWN_HELP = True` it adds --help itself.
"""

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from reasoning_fix import ReasoningFixError, __version__

# Name of the subcommand -> its module, in the order of `--help`, with the line that `--help` shows.
COMMANDS: dict[str, tuple[str, str]] = {
    "try": ("trial", "see it work here, without a key and without the network"),
    "run": ("run", "start the proxy"),
    "web": ("web", "start the proxy with mitmproxy's page in the browser"),
    "exec": ("execute", "run one program through the proxy"),
    "env": ("env", "print the variables that send a shell's programs through the proxy"),
    "ca": ("ca", "make, show, trust or no longer trust the CA that the proxy signs with"),
    "service": ("service", "keep the proxy running: install, status, remove"),
    "system-proxy": ("system_proxy", "send every program of this desktop through the proxy: on, off, status"),
    "doctor": ("doctor", "find what is wrong and say the fix"),
    "watch": ("watch", "follow the running proxy: each request, and what was done to it"),
    "stats": ("stats", "show what was restored, refused and cached, day by day"),
    "learned": ("learned", "list what refusals taught"),
    "forget": ("forget", "erase recorded turns, lessons or counts"),
    "completion": ("completion", "print what lets a shell complete commands and options"),
    "uninstall": ("uninstall", "take back what was put on this machine"),
    "audit": ("audit", "find out by a few requests what a provider wants of reasoning, with your key"),
    "explain": ("explain", "say why each turn in a saved flow file was or was not restored"),
    "replay": ("replay", "run a saved flow file through recording and restoring again, offline"),
    "redact": ("redact", "make a copy of a flow file that can be shared: no credentials, no texts"),
}


class UsageError(ReasoningFixError):
    """The command is used wrongly or cannot do this; the text says what to do instead."""


def main(given: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    words = list(sys.argv[1:] if given is None else given)
    arguments, module = _parse(words)
    if module is None:
        return 2
    try:
        code: int = module.run(arguments)
    except ReasoningFixError as error:
        print(f"reasoning-fix: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of the output has seen enough (`| head`); Python would complain about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return code


def _parse(words: list[str]) -> tuple[argparse.Namespace, ModuleType | None]:
    parser = argparse.ArgumentParser(
        prog="reasoning-fix",
        description="Gives reasoning models back the reasoning that clients drop.",
        epilog="`reasoning-fix COMMAND --help` says more about one of them.",
    )
    parser.add_argument("--version", action="version", version=f"reasoning-fix {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    is_completed = "_ARGCOMPLETE" in os.environ
    if is_completed:
        # The shell asks what may come next in a line that is not finished.
        words = os.environ.get("COMP_LINE", "").split()[1:]
    asked = next((word for word in words if not word.startswith("-")), "")
    module: ModuleType | None = None
    others: list[str] = []
    for name, (module_name, line) in COMMANDS.items():
        if name != asked:
            commands.add_parser(name, help=line, description=line)
        else:
            module = importlib.import_module(f"reasoning_fix.cli.{module_name}")
            command = commands.add_parser(name, help=line, add_help=not getattr(module, "OWN_HELP", False))
            command.description, command.epilog = _help(module.__doc__ or line)
            command.formatter_class = argparse.RawDescriptionHelpFormatter
            module.add_arguments(command)
            if hasattr(module, "split"):
                after = words.index(name) + 1
                ours, others = module.split(words[after:])
                words = [*words[:after], *ours]
    if is_completed:
        _complete(parser)
    arguments = parser.parse_args(words)
    arguments.others = others
    if arguments.command is None:
        parser.print_help()
    return arguments, module


def _complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell, and end, where the library for that is installed."""
    with contextlib.suppress(ImportError):
        importlib.import_module("argcomplete").autocomplete(parser, always_complete_options="long")


def _help(text: str) -> tuple[str, str]:
    """A module's docstring as what stands before the options in its `--help`, and what stands behind them."""
    paragraphs = text.strip("\n").split("\n\n")
    examples = [part for part in paragraphs if part.startswith("  ")]
    codes = [part.rstrip() for part in paragraphs if part.startswith("Exit codes")]
    others = [part for part in paragraphs if part not in examples and not part.startswith("Exit codes")]
    return "\n\n".join(others), "\n\n".join([f"examples:\n{part}" for part in examples] + codes)
