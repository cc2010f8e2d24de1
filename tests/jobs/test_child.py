"""Supervised children: their status is told, they stop when asked, and none outlives its parent."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.jobs import forked

from limbeck.jobs import child


def script(text):
    return [sys.executable, "-c", text]


def test_the_status_and_the_words_of_a_child_are_kept(tmp_path):
    log = tmp_path / "logs" / "one.log"
    said = child.spawn(script("print('hello'); raise SystemExit(7)"), log)
    assert child.supervise(said, lambda: True, lambda: None) == 7
    assert log.read_text() == "hello\n"
    died = script("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert child.supervise(child.spawn(died, log), lambda: True, lambda: None) == -signal.SIGKILL


def test_a_child_that_is_not_wanted_any_more_is_asked_to_stop(tmp_path):
    text = (
        "import signal, sys, time; signal.signal(15, lambda *_: sys.exit(130)); print('up', flush=True); time.sleep(60)"
    )
    log = tmp_path / "log"

    def wanted():
        return not (log.exists() and "up" in log.read_text())

    began = time.monotonic()
    assert child.supervise(child.spawn(script(text), log), wanted, lambda: None) == 130
    assert time.monotonic() - began < 20


def test_a_child_that_does_not_listen_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(child, "GRACE_SECONDS", 0.5)
    text = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"
    assert child.supervise(child.spawn(script(text), tmp_path / "log"), lambda: False, lambda: None) in (-15, -9)


def test_a_child_that_is_wanted_again_is_not_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(child, "GRACE_SECONDS", 0.5)
    log, asked = tmp_path / "log", []
    text = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(2)"

    def wanted():
        if log.exists() and log.read_text() and not asked:
            asked.append(time.monotonic())
        return not asked or time.monotonic() - asked[0] > 0.4

    assert child.supervise(child.spawn(script(text), log), wanted, lambda: None) == 0


def test_a_fault_while_watching_leaves_no_child_behind(tmp_path):
    pid = tmp_path / "pid"
    text = f"import os, time, pathlib; pathlib.Path({str(pid)!r}).write_text(str(os.getpid())); time.sleep(60)"

    def tick():
        if pid.exists() and pid.read_text():
            raise RuntimeError("the watcher stumbles")

    with contextlib.suppress(RuntimeError):
        child.supervise(child.spawn(script(text), tmp_path / "log"), lambda: True, tick)
    assert not alive(int(pid.read_text()))


def test_a_child_dies_with_its_parent(tmp_path):
    pid = tmp_path / "pid"
    inner = (
        "import os, sys, time, pathlib; from limbeck.jobs.child import die_with_parent;"
        f"die_with_parent(int(sys.argv[1])); pathlib.Path({str(pid)!r}).write_text(str(os.getpid())); time.sleep(60)"
    )
    outer = f"import os, subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}, str(os.getpid())])"
    parent = subprocess.Popen(script(outer))
    until = time.monotonic() + 30
    while not (pid.exists() and pid.read_text()) and time.monotonic() < until:
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    while alive(int(pid.read_text())) and time.monotonic() < until:
        time.sleep(0.05)
    assert not alive(int(pid.read_text()))


def test_a_program_of_ours_takes_no_module_from_the_folder_it_is_begun_in(tmp_path):
    (tmp_path / "setproctitle.py").write_text("raise SystemExit(9)")
    assert subprocess.run([sys.executable, "-m", "limbeck.jobs.child"], cwd=tmp_path).returncode == 9
    assert subprocess.run(child.program("limbeck.jobs.child"), cwd=tmp_path).returncode == 0


def test_a_forked_child_is_watched_as_a_spawned_one_and_goes_by_its_title(tmp_path):
    log = tmp_path / "logs" / "one.log"

    def begun(what, *more):
        return child.fork(forked.main, [what, *more], log, "json", f"a child at {what}")

    assert child.supervise(begun("end", "7"), lambda: True, lambda: None) == 7
    parent, shown, loaded = log.read_text().split("\n")[:3]
    assert int(parent) == os.getpid()
    assert (shown, loaded) == ("a child at end", "True")
    assert child.supervise(begun("die"), lambda: True, lambda: None) == -signal.SIGKILL
    up = tmp_path / "up"
    assert child.supervise(begun("wait", str(up)), lambda: not up.exists(), lambda: None) == 130


def test_a_forked_child_dies_with_the_parent_of_what_it_was_forked_from(tmp_path):
    up = tmp_path / "up"
    text = (
        "from pathlib import Path; from limbeck.jobs import child; from tests.jobs import forked;"
        f"child.supervise(child.fork(forked.main, ['wait', {str(up)!r}], Path({str(tmp_path / 'log')!r}), 'json', 'x'),"
        "lambda: True, lambda: None)"
    )
    parent = subprocess.Popen(script(text), cwd=Path(__file__).parents[2])
    until = time.monotonic() + 60
    while not (up.exists() and up.read_text()) and time.monotonic() < until:
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    while alive(int(up.read_text())) and time.monotonic() < until:
        time.sleep(0.05)
    assert not alive(int(up.read_text()))


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
