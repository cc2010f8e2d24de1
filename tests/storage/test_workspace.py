"""Steps run once, from the inputs they were made from; nothing half-written is taken for whole."""

import errno
import os
import time
from pathlib import Path

import pytest

from limbeck.errors import Conflict, DamagedArtifact, Stopped
from limbeck.storage.workspace import MANIFEST, Workspace, job_states, read_json, write_json, writing


@pytest.fixture
def work(tmp_path):
    return Workspace(tmp_path / "jobs" / "job")


def counted(calls, name="out.txt", text="x"):
    def make(folder):
        calls.append(folder)
        (folder / name).write_text(text)

    return make


def test_a_finished_step_is_not_run_again(work):
    calls = []
    for _ in range(2):
        folder = work.step("1-a", {"n": 1}, counted(calls))
    assert len(calls) == 1
    assert read_json(folder / MANIFEST)["files"]["out.txt"]["bytes"] == 1


def test_other_inputs_clear_the_folder_and_run_it_again(work):
    calls = []
    work.step("1-a", {"n": 1}, counted(calls, "old.txt"))
    folder = work.step("1-a", {"n": 2}, counted(calls, "new.txt"))
    assert len(calls) == 2
    assert not (folder / "old.txt").exists()


def test_a_broken_off_step_finds_its_own_work_and_only_its_own(work):
    def fail(folder):
        (folder / "part.txt").write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        work.step("1-a", {"n": 1}, fail)
    seen = []
    work.step("1-a", {"n": 1}, lambda folder: seen.append((folder / "part.txt").exists()))
    assert seen == [True]
    with pytest.raises(RuntimeError):
        work.step("1-b", {"n": 1}, fail)
    work.step("1-b", {"n": 2}, lambda folder: seen.append((folder / "part.txt").exists()))
    assert seen == [True, False]


def test_a_file_that_changed_behind_a_manifest_is_named(work):
    folder = work.step("1-a", {}, counted([]))
    (folder / "out.txt").write_text("longer")
    with pytest.raises(DamagedArtifact, match=r"out\.txt: missing or changed.*delete .*1-a to make it again"):
        work.step("1-a", {}, counted([]))


def test_the_digest_of_a_stage_is_of_its_content_alone(tmp_path):
    first, second, third = (Workspace(tmp_path / name) for name in "abc")
    for work, text in ((first, "x"), (second, "x"), (third, "y")):
        work.step("1-a", {"who": work.name}, counted([], text=text))
    assert first.digest_of("1-a") == second.digest_of("1-a") != third.digest_of("1-a")


def test_a_stop_is_heard_before_a_step_begins(work):
    work.stop.set()
    with pytest.raises(Stopped):
        work.step("1-a", {}, counted([]))


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("before")
    with pytest.raises(RuntimeError), writing(path) as file:
        file.write("half")
        raise RuntimeError
    assert path.read_text() == "before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.txt"]


def test_a_job_has_one_worker_at_a_time(work):
    second = pytest.raises(Conflict, match='job "job" is being worked on by another process')
    with work.locked(), second, work.locked():
        pass
    with work.locked():
        pass


def test_whoever_only_looks_whether_a_job_is_held_keeps_nobody_from_it(work, monkeypatch):
    looked = work.locked()
    looked.__enter__()
    monkeypatch.setattr(time, "sleep", lambda seconds: looked.__exit__(None, None, None))
    with work.locked():
        pass


def test_the_state_of_jobs_is_read_from_their_folders(work):
    write_json(work.folder / "recipe.json", {"kind": "distillation"})
    jobs = work.folder.parent
    assert [job["state"] for job in job_states(jobs)] == ["unfinished"]
    with work.locked():
        assert [job["state"] for job in job_states(jobs)] == ["running"]
    work.step("6-model", {}, counted([]))
    assert [(job["name"], job["state"], job["stages"]) for job in job_states(jobs)] == [
        ("job", "finished", ["6-model"])
    ]


def test_the_state_of_jobs_is_told_to_who_may_only_read_them(work, monkeypatch):
    write_json(work.folder / "recipe.json", {"kind": "distillation"})
    opened = Path.open

    def read_alone(path, mode="r", *rest, **more):
        if set(mode) & set("wax+"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opened(path, mode, *rest, **more)

    with work.locked():
        monkeypatch.setattr(Path, "open", read_alone)
        assert [job["state"] for job in job_states(work.folder.parent)] == ["running"]
    assert [job["state"] for job in job_states(work.folder.parent)] == ["unfinished"]


def test_broken_json_is_named(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(DamagedArtifact, match=r"a\.json: not JSON"):
        read_json(tmp_path / "a.json")
    with pytest.raises(DamagedArtifact, match=r"b\.json: missing"):
        read_json(tmp_path / "b.json")


def test_who_may_read_a_file_says_the_umask_but_what_is_private_its_owner_reads_alone(tmp_path):
    before = os.umask(0o027)
    try:
        write_json(tmp_path / "report.json", {})
        write_json(tmp_path / "keys.json", {}, private=True)
    finally:
        os.umask(before)
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("report.json", "keys.json")]
    assert modes == [0o640, 0o600]
