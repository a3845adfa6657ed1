"""mitmdump and mitmweb with the addon built in: our defaults below whatever the person sets.

Strategy: mitmproxy's own start (`mitmproxy.tools.main.run`) with our master, so that all its flags and
options work, and ours are known before they are parsed. What we set are defaults, below config.yaml, flags
and --set.
"""

import argparse
import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Optional, cast

import msgspec
from mitmproxy import master, options, optmanager
from mitmproxy.tools import cmdline
from mitmproxy.tools.dump import DumpMaster
from mitmproxy.tools.main import run
from mitmproxy.tools.web.master import WebMaster

from reasoning_fix.addon import addons
from reasoning_fix.running.command_line import LISTEN_HOST, LISTEN_PORT

# What a proxy that stays on wants: this machine only; answers that think for an hour; a quiet terminal. With
# mitmproxy's types, and as defaults proper: `--options`, from which people make a config.yaml, shows them.
SAFE: tuple[tuple[str, object, object], ...] = (
    ("listen_host", str, LISTEN_HOST),
    ("listen_port", Optional[int], LISTEN_PORT),  # noqa: UP045 (mitmproxy knows this spelling only)
    ("tcp_timeout", int, 3600),
    ("flow_detail", int, 0),
    # In mitmweb's list of flows, what was done to each.
    ("web_columns", Sequence[str], ["icon", "path", "status", "comment", "size", "time"]),
)


class Tool(msgspec.Struct, frozen=True):
    """One of mitmproxy's tools: its name, the command of ours, its master and its command line."""

    name: str
    command: str
    master: Callable[[options.Options], master.Master]
    parser: Callable[[options.Options], argparse.ArgumentParser]


MITMDUMP = Tool("mitmdump", "run", DumpMaster, cmdline.mitmdump)
MITMWEB = Tool("mitmweb", "web", WebMaster, cmdline.mitmweb)


class Start(msgspec.Struct, frozen=True):
    """How to start: words for mitmproxy, defaults of ours, and addons around the one that repairs.

    `configured` names the options that config.yaml sets; `before` see a request before it is repaired.
    """

    tool: Tool
    words: tuple[str, ...] = ()
    configured: frozenset[str] = frozenset()
    defaults: dict[str, str] = {}
    before: tuple[object, ...] = ()
    after: tuple[object, ...] = ()


def start(how: Start) -> None:
    """Runs until it is stopped. mitmproxy leaves by SystemExit(1) where it cannot start."""
    held: list[options.Options] = []
    run(
        cast(type[master.Master], partial(_make_master, how, held)),
        partial(_make_parser, how.tool),
        how.words,
        lambda arguments: _last_word(how, held[0], arguments),
    )


def help_text(tool: Tool) -> str:
    """The tool's own --help, as it is with our options among them."""

    async def made() -> str:
        opts = options.Options()
        _make_master(Start(tool), [], opts)
        return _make_parser(tool, opts).format_help()

    return asyncio.run(made())


def _make_master(how: Start, held: list[options.Options], opts: options.Options) -> master.Master:
    later = opts.update_known(**how.defaults)  # type: ignore[no-untyped-call]
    made = how.tool.master(opts)
    opts.update(**later)  # type: ignore[no-untyped-call]  # only now do the addons that have them hear of it
    for name, typespec, value in SAFE:
        if name in opts:  # mitmweb has no flow_detail, mitmproxy 12.2.0 no tcp_timeout (there it is 600)
            known = optmanager.dump_dicts(opts, [name])[name]
            opts.add_option(name, cast(type, typespec), value, known["help"], known["choices"])
    made.addons.add(*how.before, *addons, *how.after)  # type: ignore[no-untyped-call]
    held.append(opts)
    return made


def _make_parser(tool: Tool, opts: options.Options) -> argparse.ArgumentParser:
    parser = tool.parser(opts)
    parser.prog = f"reasoning-fix {tool.command}"
    parser.set_defaults(filter_args=[])  # mitmweb has no filter, and `run` asks for it
    return parser


def _last_word(how: Start, opts: options.Options, arguments: argparse.Namespace) -> dict[str, Any]:
    """What comes over everything: --set, which mitmproxy puts below config.yaml, and mitmdump's filter."""
    flags = {name for name, value in vars(arguments).items() if value is not None}
    again = how.configured - flags
    opts.set(*(spec for spec in arguments.setoptions if spec.partition("=")[0] in again), defer=True)
    chosen = " ".join(arguments.filter_args)
    if not chosen:
        return {}
    return dict.fromkeys(("save_stream_filter", "readfile_filter", "dumper_filter"), chosen)
