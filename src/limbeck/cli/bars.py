"""Progress bars for a terminal: rate, time left, and what the step says beside them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Task as RichTask
from rich.text import Text

from limbeck.progress import Lines, Task
from limbeck.progress import Progress as Watcher

__all__ = ["watcher"]


def watcher(console: Console) -> Watcher:
    """Bars on a terminal, quiet lines elsewhere."""
    if console.is_terminal:
        return _Bars(console)
    return Lines(lambda text: console.print(text, markup=False, highlight=False, soft_wrap=True))


class _Rate(ProgressColumn):
    def render(self, task: RichTask) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f}/s" if speed else "", style="cyan")


class _Step:
    def __init__(self, progress: Progress, task: int) -> None:
        self._progress, self._task = progress, task

    def advance(self, amount: float = 1) -> None:
        self._progress.advance(self._task, amount)  # type: ignore[arg-type]

    def note(self, text: str) -> None:
        self._progress.update(self._task, note=text)  # type: ignore[arg-type]


class _Bars:
    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def task(self, name: str, total: float, unit: str, done: float = 0) -> Iterator[Task]:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TextColumn(unit),
            _Rate(),
            TimeRemainingColumn(),
            TextColumn("[dim]{task.fields[note]}"),
        )
        with Progress(*columns, console=self._console) as progress:
            task = progress.add_task(name, total=total, completed=int(done), note="")
            yield _Step(progress, task)

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)

    def stage(self, name: str) -> None:
        """A bar names itself; a stage needs no line of its own."""
