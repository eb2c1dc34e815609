"""The ``hilos`` command: which commands there are, and what its exit codes mean.

Knows argparse and how a process ends: an error of the command line in one line, Ctrl-C and a
broken pipe without a word. Refuses to know what a command does and how a table looks.
"""

from __future__ import annotations

import argparse
import textwrap
from typing import TYPE_CHECKING, Protocol

from hilos_async._version import __version__
from hilos_async.cli import (
    _check,
    _connection,
    _contacts,
    _demo,
    _export,
    _gather,
    _get,
    _list,
    _pace,
    _run_flow,
    _show,
    _watch,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_DESCRIPTION = "Flow executions of the Hilos WhatsApp platform: start, list, look up, export."
_ENVIRONMENT = (
    ("HILOS_API_KEY", "the API key (or HILOS_API_TOKEN); there is no option for it"),
    ("HILOS_BASE_URL", "what every request begins with; --base-url and --account win"),
    ("HILOS_ACCOUNT", "an ActiveCampaign account's name, if none of these is given"),
    (
        "HTTPS_PROXY",
        "the proxy to ask through; NO_PROXY lists the hosts to ask without one (this machine always is)",
    ),
)
_EXIT_CODES = (
    ("0", "all is well"),
    ("1", "some lookups failed, time was up, or the output could not be written"),
    (
        "2",
        (
            "wrong usage or configuration: a missing key, a bad id, a bad URL, a file of ids that is "
            "empty or cannot be read; nothing was sent"
        ),
    ),
    ("3", "the key was refused"),
    ("4", "the API could not be reached, or did not answer sensibly"),
    ("5", "a campaign may have started all the same: look before you start it again"),
    ("130", "Ctrl-C (but it is how `hilos demo --serve` ends: 0 there)"),
    ("141", "whoever read the output is gone, as in `hilos get ... | head -1`"),
)


def _epilog() -> str:
    """What the help ends with, as wide as argparse makes the rest."""
    width = _show.width() - 2

    def listed(title: str, entries: Sequence[tuple[str, str]]) -> str:
        indent = 4 + max(len(term) for term, _ in entries)
        filled = (
            textwrap.fill(
                text,
                width,
                initial_indent=f"  {term}".ljust(indent),
                subsequent_indent=" " * indent,
                break_on_hyphens=False,
            )
            for term, text in entries
        )
        return f"{title}:\n" + "\n".join(filled)

    streams = "Data goes to standard output; progress and messages go to standard error."
    lists = (listed("environment", _ENVIRONMENT), listed("exit codes", _EXIT_CODES))
    return "\n\n".join((*lists, textwrap.fill(streams, width)))


class _Command(Protocol):
    """The module of a command."""

    @property
    def SUMMARY(self) -> str: ...  # noqa: N802 - a module's constant
    @property
    def DESCRIPTION(self) -> str: ...  # noqa: N802
    def configure(self, parser: argparse.ArgumentParser, /) -> None: ...
    def run(self, options: argparse.Namespace, /) -> int: ...


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code, as ``hilos --help`` lists them."""
    try:
        try:
            _show.prepare()
            return _run(_parser(), argv)
        except _show.CommandError as error:
            if error.message:
                _show.message(error.message)
            return error.code
    except KeyboardInterrupt:
        _show.end_line()
        return _show.INTERRUPTED


def _run(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    try:
        options = parser.parse_args(argv)
    except SystemExit as ending:  # argparse's way to end after --help, --version and wrong usage
        _show.data("")  # whether the help could be written shows now, not when Python ends
        return 2 if ending.code else 0
    code: int = options.run(options)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hilos",
        description=textwrap.fill(_DESCRIPTION, _show.width() - 2),
        epilog=_epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"hilos_async {__version__}")
    commands = parser.add_subparsers(title="commands", required=True)

    def add(module: _Command, name: str, *, asks: bool = True) -> None:
        command = commands.add_parser(
            name,
            help=module.SUMMARY,
            description=module.DESCRIPTION,
            epilog="`hilos --help` lists the environment variables and the exit codes.",
            allow_abbrev=False,
        )
        command.set_defaults(run=module.run)
        module.configure(command)
        if asks:
            _connection.configure(command)

    add(_demo, "demo", asks=False)
    add(_get, "get")
    add(_check, "check")
    add(_gather, "gather")
    add(_watch, "watch")
    add(_list, "list")
    add(_contacts, "contacts")
    add(_run_flow, "run")
    add(_export, "export")
    add(_pace, "pace", asks=False)
    return parser
