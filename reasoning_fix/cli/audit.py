"""Find out what a provider wants of reasoning, by a few requests with your key, and write it as a rule.

  reasoning-fix audit deepseek --model deepseek-flash --dry-run
  reasoning-fix audit deepseek --model deepseek-flash
  reasoning-fix audit kimi --model kimi-k2.6 --dialect messages --yes
  reasoning-fix audit llm.example.com --base-url https://llm.example.com/v1 --model qwen3 --write rule.toml

It asks whether the model thinks by default and which field the thought comes in; then sends conversations
back whose turns lack it, or have an empty text, a space, a placeholder or another text in its place, with
tool calls and without; and tries the switches that turn thinking off. How many requests that takes at most is
said beforehand. The key comes from the environment (DEEPSEEK_API_KEY, MOONSHOT_API_KEY, ... or --key-env
NAME); it is neither stored nor printed, and goes to that one URL only.

The rule is TOML for your own provider table: --write FILE puts it into a file, after what is there already.

Exit codes: 0 done; 1 the provider or the network did not let it finish; 2 used wrongly, nothing was sent;
130 interrupted.
"""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import get_args

import msgspec

from reasoning_fix.cli import UsageError, shared
from reasoning_fix.diagnosis.audit import spelling, verdict
from reasoning_fix.diagnosis.audit.asking import Asker, NoAnswer, Reply, Send, sender
from reasoning_fix.diagnosis.audit.checklist import Check, Checklist, Findings, most_requests
from reasoning_fix.diagnosis.audit.targets import Target, find
from reasoning_fix.engine.usage import Usage
from reasoning_fix.machine import folders
from reasoning_fix.providers.files import ProviderTableError
from reasoning_fix.providers.rows import Dialect, Rule
from reasoning_fix.providers.table import Table, load_table
from reasoning_fix.store import private_files

_TIMEOUT = 300


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "provider", metavar="PROVIDER_OR_HOST", help="a name or host of the provider table, or any host"
    )
    parser.add_argument(
        "--model", required=True, metavar="NAME", help="the model to ask, as requests name it"
    )
    parser.add_argument(
        "--dialect",
        choices=get_args(Dialect.__value__),
        default="chat_completions",
        help="the wire to ask on (default: chat_completions)",
    )
    parser.add_argument("--key-env", metavar="NAME", help="the environment variable that holds the key")
    parser.add_argument("--no-key", action="store_true", help="send no key, to a server that wants none")
    parser.add_argument("--base-url", default="", metavar="URL", help="the base URL that clients are given")
    parser.add_argument("--ca", type=Path, metavar="FILE", help="trust the CA in this file, too")
    parser.add_argument(
        "--timeout", type=_seconds, default=_TIMEOUT, metavar="SECONDS", help="for each answer"
    )
    parser.add_argument("--pause", type=_seconds, default=0.0, metavar="SECONDS", help="between requests")
    parser.add_argument("--yes", action="store_true", help="do not ask before sending")
    parser.add_argument("--dry-run", action="store_true", help="print the requests and send none")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the rule into this file")
    shared.add_user_providers(parser)


def run(arguments: argparse.Namespace) -> int:
    """Audit one model on one wire; returns the exit code."""
    user_file = shared.user_providers(arguments)
    table = load_table(user_file)
    target = find(table, arguments.provider, arguments.model, arguments.dialect, arguments.base_url)
    most = most_requests(table, target)
    key_name = arguments.key_env or target.key_name
    if arguments.dry_run:
        return _print_requests(table, target, "" if arguments.no_key else key_name, most)
    key = "" if arguments.no_key else _key(key_name)
    send = _sender(arguments, target, key)
    said: list[Check] = []

    def say(text: str) -> None:
        if not arguments.json:
            print(text, flush=True)

    def tell(check: Check) -> None:
        said.append(check)
        say(f"  {check.name:<46} {check.outcome}" + (f" ({check.note})" if check.note else ""))

    say(f"Asking {target.url} about {target.model}, with at most {most} requests.")
    if key and target.url.startswith("http:"):
        say("Mind that the key travels unencrypted there.")
    if not arguments.yes:
        _confirm(most, target, key_name if key else "")
    asker = Asker(send, most=most, pause=arguments.pause, tell=lambda text: say(f"  ({text})"))
    checklist = Checklist(table, target, asker, key, tell)
    stopped, code = "", 0
    try:
        checklist.run()
    except NoAnswer as reason:
        stopped, code = str(reason), 1
    except KeyboardInterrupt:
        stopped, code = "interrupted.", 130
    found = checklist.findings
    rule = toml = None
    unlike: list[str] = []
    if not stopped:
        rule = verdict.rule_of(found, table, target, f"reasoning-fix audit, {time.strftime('%Y-%m-%d')}")
        toml = verdict.toml_of(verdict.row_of(rule, found, target, user_file))
        assert verdict.says_what_it_should(toml, rule, target), "the rule is not what its TOML says"
        unlike = verdict.differences(rule, target, table)
        say("\n".join(["", *_result(found, target, unlike)]))
        if arguments.write is None:
            own = folders.configuration() / "providers.toml"
            say(f"\nFor your own provider table ({own}):\n\n{toml.rstrip()}")
    say(f"\n{_cost(asker.sent, found.cost)}")
    if arguments.json:
        shared.print_json(
            {
                "url": target.url,
                "model": target.model,
                "dialect": target.dialect,
                "checks": said,
                "rule": rule,
                "differences": unlike,
                "toml": toml,
                "requests": asker.sent,
                "tokens": found.cost,
                "stopped": stopped,
            }
        )
    if stopped:
        print(f"reasoning-fix: {stopped}", file=sys.stderr)
    elif arguments.write is not None and toml is not None and rule is not None:
        return _write(arguments.write.expanduser(), toml, rule, target, arguments.json)
    return code


def _result(found: Findings, target: Target, unlike: list[str]) -> list[str]:
    lines = [f"{line[0].upper()}{line[1:]}." for line in verdict.summary(found)]
    if not target.known:
        return [*lines, f"{target.host} is in no table yet."]
    if unlike:
        return [*lines, "This is not what the table says:", *(f"  {line}" for line in unlike)]
    return [*lines, "This is what the table says."]


def _cost(sent: int, cost: Usage) -> str:
    return (
        f"{shared.counted(sent, 'request')}: {cost.prompt:,} tokens of prompts "
        f"({cost.cached:,} cached), {cost.answer:,} of answers ({cost.thought:,} thought)."
    )


# ---- before anything is sent -----------------------------------------------------------------------------


def _key(name: str) -> str:
    key = os.environ.get(name, "").strip()
    if not key:
        raise UsageError(
            f"no key: the environment variable {name} is not set. Set it, name another with --key-env, or "
            "give --no-key for a server that wants none."
        )
    if not key.isascii() or not key.isprintable():
        raise UsageError(f"the key in {name} holds characters that no header can carry.")
    return key


def _sender(arguments: argparse.Namespace, target: Target, key: str) -> Send:
    ca = None if arguments.ca is None else str(arguments.ca.expanduser())
    try:
        return sender(target.url, target.headers(key), timeout=arguments.timeout, ca=ca)
    except OSError as error:
        raise UsageError(f"--ca {ca}: {error.strerror or error}.") from error


def _confirm(most: int, target: Target, key_name: str) -> None:
    if not sys.stdin.isatty():
        raise UsageError(
            "nothing was sent: this costs tokens. Give --yes to go on, or --dry-run to look first."
        )
    key = f"the key in {key_name}" if key_name else "no key"
    try:
        answer = input(f"Send up to {most} requests to {target.host} with {key}? Most are short. [y/N] ")
    except EOFError:
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        raise UsageError("nothing was sent.")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} was given; a number of seconds up to 3600 is allowed")
    return seconds


def _print_requests(table: Table, target: Target, key_name: str, most: int) -> int:
    """Every request, as it would be sent to a model that thinks and calls the tool it is asked to."""
    print(f"# At most {most} requests to {target.url}")
    for header, value in sorted(target.headers(f"${key_name}" if key_name else "").items()):
        print(f"# {header}: {value}")

    shown: list[bytes] = []

    def show(body: bytes) -> Reply:
        shown.append(body)
        calls = b'"tools"' in body and b"tool_call_id" not in body and b"tool_result" not in body
        calls = calls and b"function_call_output" not in body
        return Reply(200, spelling.made_up_answer(target.dialect, calls))

    def name(check: Check) -> None:
        print(f"\n# {check.name}", *(msgspec.json.format(body).decode() for body in shown), sep="\n")
        shown.clear()

    Checklist(table, target, Asker(show, most=most), "", name).run()
    return 0


# ---- the rule --------------------------------------------------------------------------------------------


def _write(path: Path, toml: str, rule: Rule, target: Target, quiet: bool) -> int:
    """Append to what is there; where the two contradict each other, nothing is written."""
    try:
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        whole = f"{before.rstrip()}\n\n{toml}" if before.strip() else toml
        try:
            fits = verdict.says_what_it_should(whole, rule, target)
            reason = f"another row there speaks for {target.host}"
        except ProviderTableError as error:
            fits, reason = False, f"{error.key}: {error.reason}"
        if not fits:
            print(
                f"reasoning-fix: {path} was left as it is ({reason}): put the rule into it by hand, or give "
                "--write another file.",
                file=sys.stderr,
            )
            return 1
        path.parent.mkdir(parents=True, exist_ok=True)
        private_files.replace(path, whole.encode())
    except (OSError, UnicodeError) as error:
        print(f"reasoning-fix: {path} cannot be written: {error}.", file=sys.stderr)
        return 1
    if not quiet:
        print(f"The rule is in {path}. The proxy reads it with --set reasoning_providers={path},")
        print(f"or at its start where it is {folders.configuration() / 'providers.toml'}.")
    return 0
