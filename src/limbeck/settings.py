"""Where things live, and how much of the machine they may have: read once, from the environment.

| variable | meaning | default |
|---|---|---|
| `LIMBECK_HOME` | jobs, models, stored answers, converted weights | `~/.limbeck` |
| `LIMBECK_THREADS` | threads for matrix products | all cores, or a share of them |
| `LIMBECK_DEVICE` | where models learn and answer, as torch names it: `cpu`, `cuda`, `cuda:1`, `mps` | `cpu` |
| `LIMBECK_REGION` | the region in the service's resource names | `us-east-1` |
| `LIMBECK_ACCOUNT` | the 12-digit account in the service's resource names | `000000000000` |
| `LIMBECK_DATABASE` | where the service keeps its rows: `sqlite:////path` or `postgresql://…` | a file in the home |
| `LIMBECK_S3_ENDPOINT` | the S3-compatible server whose buckets `s3://` means | folders of the home |
| `LIMBECK_S3_ACCESS_KEY_ID`, `LIMBECK_S3_SECRET_ACCESS_KEY` | our key there | |
| `LIMBECK_S3_REGION` | its region | `us-east-1` |
| `LIMBECK_MEMORY` | bytes that hosted models may take together | half of the machine's |
| `LIMBECK_SLOTS` | answers a hosted model writes at once | 4 |
| `LIMBECK_IDLE_SECONDS` | after which a hosted model nobody asks is let go | 900 |
| `LIMBECK_MOST_JOBS` | jobs of a kind that may be under way or waiting | 20 |
| `LIMBECK_MOST_DEPLOYMENTS` | deployments of a kind there may be | 100 |
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from limbeck.errors import InvalidInput

__all__ = ["S3Endpoint", "Settings", "machine_memory"]


@dataclass(frozen=True)
class S3Endpoint:
    """An S3-compatible server, and our key there."""

    url: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    region: str


@dataclass(frozen=True)
class Settings:
    """The places and sizes of one installation."""

    home: Path
    threads: int
    device: str = "cpu"
    """Where models learn and answer, as torch names it."""
    region: str = "us-east-1"
    account: str = "000000000000"
    s3: S3Endpoint | None = None
    """Where buckets are, if they are not folders of the home."""
    database_url: str | None = field(default=None, repr=False)
    """Where rows are, if not in the home."""
    memory_bytes: int = 4_000_000_000
    """What hosted models may take together."""
    slots: int = 4
    """How many answers a hosted model writes at once."""
    idle_seconds: int = 900
    """A hosted model that nobody asks for so long is unloaded."""
    most_jobs: int = 20
    most_deployments: int = 100

    @classmethod
    def read(cls, home: Path | None = None) -> Settings:
        """Settings from the environment; ``home``, when given, wins over ``LIMBECK_HOME``."""
        found = home or Path(os.environ.get("LIMBECK_HOME") or Path.home() / ".limbeck")
        region = os.environ.get("LIMBECK_REGION") or cls.region
        if not re.fullmatch(r"[a-z0-9-]{1,20}", region):
            raise InvalidInput(
                f'LIMBECK_REGION is "{region}"; expected lower-case letters, digits and dashes, at most 20'
            )
        account = os.environ.get("LIMBECK_ACCOUNT") or cls.account
        if not re.fullmatch(r"[0-9]{12}", account):
            raise InvalidInput(f'LIMBECK_ACCOUNT is "{account}"; expected 12 digits')
        device = os.environ.get("LIMBECK_DEVICE") or cls.device
        if not re.fullmatch(r"[a-z]+(:[0-9]{1,3})?", device):
            raise InvalidInput(f'LIMBECK_DEVICE is "{device}"; expected cpu, cuda, cuda:1, mps')
        return cls(
            home=_folder(found),
            threads=_whole("LIMBECK_THREADS", max(1, (os.cpu_count() or 1) // _whole("LOCAL_WORLD_SIZE", 1))),
            device=device,
            region=region,
            account=account,
            s3=_s3_endpoint(),
            database_url=os.environ.get("LIMBECK_DATABASE") or None,
            memory_bytes=_whole("LIMBECK_MEMORY", machine_memory() // 2),
            slots=_whole("LIMBECK_SLOTS", cls.slots),
            idle_seconds=_whole("LIMBECK_IDLE_SECONDS", cls.idle_seconds),
            most_jobs=_whole("LIMBECK_MOST_JOBS", cls.most_jobs),
            most_deployments=_whole("LIMBECK_MOST_DEPLOYMENTS", cls.most_deployments),
        )

    def kept(self, path: Path) -> str:
        """``path`` as a file of the home keeps it: from the home on, where it lies there, so that a home can be moved.

        ``home / kept(path)`` is ``path`` again.
        """
        return str(path.relative_to(self.home) if path.is_relative_to(self.home) else path)

    @property
    def jobs(self) -> Path:
        """A folder a job."""
        return self.home / "jobs"

    @property
    def models(self) -> Path:
        """A small file a registered model, which points at its weights."""
        return self.home / "models"

    @property
    def imported(self) -> Path:
        """A folder a model that was brought along."""
        return self.home / "imported"

    @property
    def answers(self) -> Path:
        """The database of teachers' answers."""
        return self.home / "answers.sqlite"

    @property
    def database(self) -> str:
        """The database of the service, as a URL."""
        return self.database_url or f"sqlite:///{self.home / 'limbeck.sqlite'}"

    @property
    def buckets(self) -> Path:
        """A folder a bucket."""
        return self.home / "buckets"

    @property
    def tls(self) -> Path:
        """The certificates the service made itself."""
        return self.home / "tls"

    @property
    def identity(self) -> Path:
        """The roles and policies clients made."""
        return self.home / "identity.json"

    @property
    def keys(self) -> Path:
        """The access keys of the service."""
        return self.home / "keys.json"

    @property
    def logs(self) -> Path:
        """What processes said, a file each."""
        return self.home / "logs"

    @property
    def scratch(self) -> Path:
        """Where files lie for a moment; on the same disk as the rest."""
        folder = self.home / "scratch"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def cache(self) -> Path:
        """What can be made again: embedded weights converted once."""
        return self.home / "cache"


def _folder(home: Path) -> Path:
    """``home``, whole: a folder that is there, or that can be made. Raises `InvalidInput` for one that is a file."""
    home = home.expanduser().resolve()
    there = next(path for path in (home, *home.parents) if path.exists())
    if not there.is_dir():
        raise InvalidInput(
            f"{there}: no folder; expected one for the home, {home} (LIMBECK_HOME or --home names another)"
        )
    return home


def _whole(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    if not re.fullmatch(r"[0-9]{1,15}", text) or int(text) < 1:
        raise InvalidInput(f'{name} is "{text}"; expected a whole number from 1')
    return int(text)


def machine_memory() -> int:
    """Bytes of memory this process may use at most: the machine's, or its container's share (cgroup v2) of it."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        granted = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return whole
    return min(whole, int(granted)) if granted.isdigit() else whole


def _s3_endpoint() -> S3Endpoint | None:
    url = (os.environ.get("LIMBECK_S3_ENDPOINT") or "").rstrip("/")
    if not url:
        return None
    if not re.fullmatch(r"https?://[A-Za-z0-9.:\[\]-]+", url):
        raise InvalidInput(f'LIMBECK_S3_ENDPOINT is "{url}"; expected http://HOST:PORT or https://HOST')
    names = ("LIMBECK_S3_ACCESS_KEY_ID", "LIMBECK_S3_SECRET_ACCESS_KEY")
    key_id, secret = (os.environ.get(name) or "" for name in names)
    if not key_id or not secret:
        raise InvalidInput(f"LIMBECK_S3_ENDPOINT is set, so {' and '.join(names)} must be")
    return S3Endpoint(url, key_id, secret, os.environ.get("LIMBECK_S3_REGION") or "us-east-1")
