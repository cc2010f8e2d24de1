"""What the commands share: options, and how they print and stop."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from limbeck.errors import InvalidInput, Stopped
from limbeck.progress import StopSignal

__all__ = ["AsJson", "Home", "decoded", "print_json", "print_table", "stoppable", "tell"]

tell = Console(stderr=True)

WIDE = 1000
"""Columns where nobody sees an edge."""

Home = Annotated[Path | None, typer.Option(help="Where jobs and models live; by default LIMBECK_HOME or ~/.limbeck.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@contextmanager
def stoppable(how_to_go_on: str) -> Iterator[StopSignal]:
    """The first Ctrl-C or SIGTERM asks the work to stop at a safe point; a second Ctrl-C does not wait."""
    stop = StopSignal()

    def ask(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        tell.print("stopping at the next safe point; once more stops at once", highlight=False)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    except Stopped as stopped:
        raise Stopped(f"{stopped}; {how_to_go_on}") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def decoded(told: bytes, where: str) -> str:
    """The text that came at ``where``. Raises `InvalidInput` for what is no UTF-8."""
    try:
        return told.decode()
    except UnicodeDecodeError as error:
        found = f"byte 0x{told[error.start]:02x} at {error.start}"
        raise InvalidInput(f"{where}: {found}; expected text in UTF-8") from None


def print_json(value: Any) -> None:
    """To standard output, as a user would read it."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def print_table(table: Table) -> None:
    """To standard output; where that is no terminal, a row a line."""
    out = Console() if sys.stdout.isatty() else Console(width=WIDE)
    out.print(table, highlight=False)
