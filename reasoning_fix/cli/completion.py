"""Print what lets a shell complete commands and options of reasoning-fix with the tab key.

It is made by argcomplete, which comes with `pip install "reasoning-fix[completion]"`.

  eval "$(reasoning-fix completion bash)"                                  in ~/.bashrc
  eval "$(reasoning-fix completion zsh)"                                   in ~/.zshrc
  reasoning-fix completion fish > ~/.config/fish/completions/reasoning-fix.fish

Exit codes: 0 done; 2 used wrongly, or argcomplete is not installed.
"""

import argparse
import importlib

from reasoning_fix.cli import UsageError

SHELLS = ("bash", "zsh", "fish", "powershell")
PROGRAM = "reasoning-fix"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS)


def run(arguments: argparse.Namespace) -> int:
    """Print it; returns the exit code."""
    try:
        argcomplete = importlib.import_module("argcomplete")
    except ImportError:
        how = 'pip install "reasoning-fix[completion]"'
        raise UsageError(f"completion is made by argcomplete, which is not installed: {how}") from None
    print(argcomplete.shellcode([PROGRAM], shell=arguments.shell), end="")
    return 0
