"""Where things live and how many threads compute: read once, from the environment.

| variable          | meaning                                             | default      |
|-------------------|-----------------------------------------------------|--------------|
| `LIMBECK_HOME`    | jobs, models, stored answers, converted weights     | `~/.limbeck` |
| `LIMBECK_THREADS` | threads for matrix products                         | all cores    |
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from limbeck.errors import InvalidInput

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """The places and sizes of one installation."""

    home: Path
    threads: int

    @classmethod
    def read(cls, home: Path | None = None) -> Settings:
        """Settings from the environment; ``home``, when given, wins over ``LIMBECK_HOME``."""
        found = home or Path(os.environ.get("LIMBECK_HOME") or Path.home() / ".limbeck")
        threads = os.environ.get("LIMBECK_THREADS") or str(os.cpu_count() or 1)
        if not threads.isdigit() or int(threads) < 1:
            raise InvalidInput(f'LIMBECK_THREADS is "{threads}"; expected a whole number from 1')
        return cls(home=found.expanduser().resolve(), threads=int(threads))

    @property
    def jobs(self) -> Path:
        """A folder a job."""
        return self.home / "jobs"

    @property
    def models(self) -> Path:
        """A small file a registered model, which points at its weights."""
        return self.home / "models"

    @property
    def answers(self) -> Path:
        """The database of teachers' answers."""
        return self.home / "answers.sqlite"

    @property
    def cache(self) -> Path:
        """What can be made again: embedded weights converted once."""
        return self.home / "cache"
