"""A job's folder: one folder a stage, each complete when its manifest, written last, is there.

    jobs/NAME/
      recipe.json           the recipe, every default written out
      1-intake/             examples.jsonl, …, manifest.json
      2-synthesis/          …

`Workspace.step` runs a stage only if its manifest is missing or was made from other inputs; what it leaves is
listed in the manifest with sizes and SHA-256, and its `digest` is an input of the next stage. So a change
anywhere upstream runs again exactly what depends on it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from limbeck.errors import Conflict, DamagedArtifact
from limbeck.progress import Progress, Silent, StopSignal
from limbeck.records import digest

__all__ = [
    "MANIFEST",
    "Workspace",
    "file_digest",
    "job_states",
    "read_json",
    "read_manifest",
    "write_json",
    "write_manifest",
    "writing",
]

MANIFEST = "manifest.json"

GLANCES, GLANCE_SECONDS = 5, 0.02
"""How often a lock is tried that another process may be about to let go, and how long is waited in between."""


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def writing(path: Path, private: bool = False) -> Iterator[IO[str]]:
    """Write a text file whole or not at all: to a temporary neighbor, synced to disk, then renamed over ``path``.

    Who may read it says the umask, as of any file; one that is ``private``, its owner alone.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    neighbor = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(neighbor, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        neighbor.replace(path)
    except BaseException:
        neighbor.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any, private: bool = False) -> None:
    """Write JSON for people to read, whole or not at all; see `writing`."""
    with writing(path, private) as file:
        json.dump(value, file, indent=2, ensure_ascii=False, default=str)
        file.write("\n")


def read_json(path: Path) -> Any:
    """Read JSON; a missing or broken file is a `DamagedArtifact` that names it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DamagedArtifact(f"{path}: missing") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise DamagedArtifact(f"{path}: not JSON ({error})") from None


def write_manifest(folder: Path, inputs: Any, **more: Any) -> dict[str, Any]:
    """Seal ``folder``: list its files with sizes and digests. Until this is written the folder counts as unfinished."""
    files = {
        str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": file_digest(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST and not path.name.startswith(".")
    }
    manifest = {"inputs": inputs, "files": files, "finished_at": time.time(), **more}
    write_json(folder / MANIFEST, manifest)
    return manifest


def read_manifest(folder: Path, inputs: Any) -> dict[str, Any] | None:
    """The folder's manifest if the folder is complete and was made from ``inputs``; None otherwise."""
    if not (folder / MANIFEST).exists():
        return None
    manifest = read_json(folder / MANIFEST)
    if manifest["inputs"] != json.loads(json.dumps(inputs)):
        return None
    for name, facts in manifest["files"].items():
        path = folder / name
        if not path.exists() or path.stat().st_size != facts["bytes"]:
            raise DamagedArtifact(f"{path}: missing or changed since it was written; delete {folder} to make it again")
    return dict(manifest)


@dataclass
class Workspace:
    """One job's folder, and the two ways its work speaks with the outside: progress out, a wish to stop in."""

    folder: Path
    progress: Progress = field(default_factory=Silent)
    stop: StopSignal = field(default_factory=StopSignal)

    @property
    def name(self) -> str:
        """The job's name."""
        return self.folder.name

    @property
    def began(self) -> datetime:
        """When the job was first at work here, by the machine's clock."""
        noted = self.folder / ".began"
        if not noted.exists():
            with writing(noted) as file:
                file.write(datetime.now().isoformat())
        return datetime.fromisoformat(noted.read_text(encoding="ascii"))

    def step(self, stage: str, inputs: Mapping[str, Any], make: Callable[[Path], None]) -> Path:
        """Run one stage unless it is already done with these inputs; give its folder.

        ``make`` gets the folder. It may find its own unfinished work there (a killed run's checkpoints), but
        only if that was begun with the same ``inputs``; anything else is cleared away first.
        """
        folder = self.folder / stage
        self.progress.stage(stage)
        if read_manifest(folder, inputs) is not None:
            self.progress.say(f"{stage}: done before")
            return folder
        begun = folder / ".inputs.json"
        if folder.exists() and not (begun.exists() and read_json(begun) == json.loads(json.dumps(inputs))):
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST).unlink(missing_ok=True)
        write_json(begun, inputs)
        self.stop.check()
        make(folder)
        write_manifest(folder, dict(inputs))
        return folder

    def digest_of(self, stage: str) -> str:
        """A finished stage's content: the hash of its files' digests, and of nothing that varies from run to run."""
        manifest = read_json(self.folder / stage / MANIFEST)
        return digest({name: facts["sha256"] for name, facts in manifest["files"].items()})

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the job; a second process that wants it is refused. The lock goes with its process, however it ends."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as file:
            for again in reversed(range(GLANCES)):  # who lists jobs has it for an instant, to see whether anybody has
                if _take(file):
                    break
                if not again:
                    raise Conflict(f'job "{self.name}" is being worked on by another process')
                time.sleep(GLANCE_SECONDS)
            yield


def job_states(jobs: Path) -> Iterator[dict[str, Any]]:
    """Every job of a home: its name, kind, state (running, finished, unfinished) and the stages that are done."""
    for folder in sorted(path for path in jobs.glob("*") if (path / "recipe.json").exists()):
        done = sorted(path.parent.name for path in folder.glob(f"*/{MANIFEST}"))
        state = "finished" if "6-model" in done else "running" if _is_locked(folder) else "unfinished"
        recipe = read_json(folder / "recipe.json")
        yield {
            "name": folder.name,
            "kind": recipe["kind"],
            "state": state,
            "stages": done,
            "folder": str(folder),
        }


def _is_locked(folder: Path) -> bool:
    lock = folder / ".lock"
    if not lock.exists():
        return False
    with lock.open() as file:  # who may only read a home can look at its jobs, and a lock in common asks for no more
        return not _take(file, fcntl.LOCK_SH)


def _take(lock: IO[str], how: int = fcntl.LOCK_EX) -> bool:
    """Take the lock, until the file is closed, if nobody has it."""
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
