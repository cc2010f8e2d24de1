"""Where things live and how many threads compute: read once, from the environment.

| variable          | meaning                                             | default      |
|-------------------|-----------------------------------------------------|--------------|
| `LIMBECK_HOME`    | jobs, models, stored answers, converted weights     | `~/.limbeck` |
| `LIMBECK_THREADS` | threads for matrix products                         | all cores    |
| `LIMBECK_REGION`  | the region in the service's resource names          | `us-east-1`  |
| `LIMBECK_ACCOUNT` | the 12-digit account in the service's resource names | `000000000000` |
| `LIMBECK_MEMORY`  | bytes that hosted models may take together          | half of the machine's |
| `LIMBECK_SLOTS`   | answers a hosted model writes at once               | `4`          |
| `LIMBECK_IDLE_SECONDS` | a hosted model unused for so long is unloaded  | `900`        |
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from limbeck.errors import InvalidInput

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """The places and sizes of one installation."""

    home: Path
    threads: int
    region: str = "us-east-1"
    account: str = "000000000000"
    memory_bytes: int = 4_000_000_000
    """What hosted models may take together."""
    slots: int = 4
    """How many answers a hosted model writes at once."""
    idle_seconds: int = 900
    """A hosted model that nobody asks for so long is unloaded."""

    @classmethod
    def read(cls, home: Path | None = None) -> Settings:
        """Settings from the environment; ``home``, when given, wins over ``LIMBECK_HOME``."""
        found = home or Path(os.environ.get("LIMBECK_HOME") or Path.home() / ".limbeck")
        threads = _whole("LIMBECK_THREADS", os.cpu_count() or 1)
        region = os.environ.get("LIMBECK_REGION") or cls.region
        if not re.fullmatch(r"[a-z0-9-]{1,20}", region):
            raise InvalidInput(
                f'LIMBECK_REGION is "{region}"; expected lower-case letters, digits and dashes, at most 20'
            )
        account = os.environ.get("LIMBECK_ACCOUNT") or cls.account
        if not re.fullmatch(r"[0-9]{12}", account):
            raise InvalidInput(f'LIMBECK_ACCOUNT is "{account}"; expected 12 digits')
        return cls(
            found.expanduser().resolve(),
            threads,
            region,
            account,
            _whole("LIMBECK_MEMORY", os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2),
            _whole("LIMBECK_SLOTS", cls.slots),
            _whole("LIMBECK_IDLE_SECONDS", cls.idle_seconds),
        )

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
    def keys(self) -> Path:
        """The access keys of the service."""
        return self.home / "keys.json"

    @property
    def cache(self) -> Path:
        """What can be made again: embedded weights converted once."""
        return self.home / "cache"


def _whole(variable: str, default: int) -> int:
    """A variable that counts something."""
    given = os.environ.get(variable) or str(default)
    if not given.isdecimal() or int(given) < 1:
        raise InvalidInput(f'{variable} is "{given}"; expected a whole number from 1')
    return int(given)
