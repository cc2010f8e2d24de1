"""Real processes that start in no time: forked from one that has imported the river, which takes many seconds."""

import multiprocessing
import os
import signal
import subprocess
import sys

from limbeck.progress import Silent

SECONDS = 300.0
"""How long a process may take."""


def forked(target, *arguments) -> int:
    """The exit status of a process that called ``target``; negative, the signal that ended it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["limbeck.pipeline"])
    process = context.Process(target=target, args=arguments)
    process.start()
    process.join(SECONDS)
    assert process.exitcode is not None, "it takes too long"
    return process.exitcode


def command(arguments, environment, folder, input="") -> subprocess.CompletedProcess:
    """What `limbeck` does with ``arguments`` in ``folder``, as `subprocess.run` tells it."""
    places = [folder / f".{name}" for name in ("stdin", "stdout", "stderr")]
    places[0].write_text(input)
    try:
        status = forked(_command, list(arguments), dict(environment), folder, places)
        return subprocess.CompletedProcess(arguments, status, places[1].read_text(), places[2].read_text())
    finally:
        for place in places:
            place.unlink(missing_ok=True)


def _command(arguments, environment, folder, places):
    for number, place in enumerate(places):
        os.dup2(os.open(place, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT, 0o600), number)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)  # multiprocessing has put an empty one there
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = ["limbeck", *arguments]
    from limbeck.cli import main  # only now, that it reads this environment

    main()


class KillAt(Silent):
    """Kills the process without a warning at the ``count``-th step of the task ``name``."""

    def __init__(self, name, count):
        self.name, self.count = name, count

    def task(self, name, total, unit, done=0):
        inner = super().task(name, total, unit, done)
        return _Killing(inner, self.count) if name == self.name else inner


class _Killing:
    def __init__(self, inner, count):
        self.inner, self.left = inner, count

    def __enter__(self):
        self.inner.__enter__()
        return self

    def __exit__(self, *rest):
        return self.inner.__exit__(*rest)

    def advance(self, amount=1):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def note(self, text): ...


def distill_until_killed(recipe, home, name, count):
    """A distillation that ends at a step of a task, at the latest."""
    import limbeck

    os.environ["LIMBECK_THREADS"] = "1"
    limbeck.distill(recipe, home=home, progress=KillAt(name, count))
