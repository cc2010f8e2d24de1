"""The program: its commands, and how every error is told in words.

A command reads its flags, calls one function of the library, and prints what came of it.
"""

from __future__ import annotations

import errno
import os
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from limbeck import __version__
from limbeck.cli import checking, data, making, service, using
from limbeck.cli.terminal import decoded, tell
from limbeck.errors import LimbeckError, is_full
from limbeck.settings import Settings

__all__ = ["app", "main"]

THE_MACHINES = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}
"""What goes wrong with a file, or a folder, that is neither the input's fault nor ours."""

INTERRUPTED = 130
"""The exit status of what a Ctrl-C ended; Typer gives it back in the interrupt's place."""

app = typer.Typer(
    name="limbeck",
    help="Distill language models: prompts in, a small, measured, registered student out.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    making.distill,
    making.fine_tune,
    making.pretrain,
    using.evaluate,
    using.invoke,
    using.export,
    using.models,
    using.jobs,
    using.remove,
    checking.validate,
    checking.logs,
    making.advise,
    service.serve,
    service.worker,
):
    app.command()(command)
app.add_typer(service.keys, name="keys")
app.add_typer(data.app, name="data")


def main() -> None:
    """The program: runs a command, and tells every error in words."""
    try:
        _check_arguments(sys.argv[1:])
        status = app(standalone_mode=False)
        if status == INTERRUPTED:
            raise KeyboardInterrupt
        sys.exit(status if isinstance(status, int) else 0)
    except LimbeckError as error:
        tell.print(f"limbeck: {error}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        tell.print("limbeck: stopped", highlight=False)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as fault:
        if hasattr(fault, "exit_code") and hasattr(fault, "format_message"):  # a wrong flag or argument
            if message := fault.format_message():  # there is none where it was the help that was wanted
                tell.print(f"limbeck: {message}", markup=False, highlight=False, soft_wrap=True)
            sys.exit(2)
        told = _of_the_machine(fault) or _keep_trace(fault)
        tell.print(f"limbeck: {told}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(f"limbeck {__version__}")
        raise typer.Exit


def _check_arguments(arguments: Sequence[str]) -> None:
    """Refuse what no text is: names and prompts are written down, all in UTF-8. Raises `InvalidInput`."""
    for argument in arguments:
        told = argument.encode(errors="surrogateescape")
        decoded(told, f'"{told.decode(errors="backslashreplace")}"')


def _of_the_machine(fault: Exception) -> str | None:
    """What is a file's, a folder's or the disk's fault, in words, and None for what is ours.

    A file that is not there is ours, but for a home that cannot be made. What is copied to a full disk names two files.
    """
    if is_full(fault):
        where = getattr(fault, "filename2", None) or getattr(fault, "filename", None)
        why = getattr(fault, "strerror", None) or os.strerror(errno.ENOSPC)
        return f"{where}: {why}" if where else why
    if not isinstance(fault, OSError) or fault.filename is None:
        return None
    home = Settings.read().home
    unmade = fault.errno == errno.ENOENT and Path(fault.filename).is_relative_to(home) and not home.exists()
    return f"{fault.filename}: {fault.strerror}" if unmade or fault.errno in THE_MACHINES else None


def _keep_trace(fault: Exception) -> str:
    """Write what a developer needs to a file, and say what a user needs."""
    said = f"a fault of ours, not of your input: {type(fault).__name__}: {fault}"
    try:
        folder = Settings.read().home / "faults"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / time.strftime("%Y%m%d-%H%M%S.txt")
        path.write_text("".join(traceback.format_exception(fault)), encoding="utf-8")
    except (OSError, LimbeckError) as error:
        return f"{said}\nits trace could not be kept ({error})"
    return f"{said}\nthe trace is in {path}; please report it"
