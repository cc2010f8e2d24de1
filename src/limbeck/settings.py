"""Where things live and how many threads compute: read once, from the environment.

| variable          | meaning                                             | default      |
|-------------------|-----------------------------------------------------|--------------|
| `LIMBECK_HOME`    | jobs, models, stored answers, converted weights     | `~/.limbeck` |
| `LIMBECK_THREADS` | threads for matrix products                         | all cores    |
| `LIMBECK_REGION`  | the region in the service's resource names          | `us-east-1`  |
| `LIMBECK_ACCOUNT` | the 12-digit account in the service's resource names | `000000000000` |
| `LIMBECK_S3_ENDPOINT` | the S3-compatible server whose buckets `s3://` means | folders of the home |
| `LIMBECK_S3_ACCESS_KEY_ID`, `LIMBECK_S3_SECRET_ACCESS_KEY` | our key there | |
| `LIMBECK_S3_REGION` | its region | `us-east-1` |
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from limbeck.errors import InvalidInput

__all__ = ["S3Endpoint", "Settings"]


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
    region: str = "us-east-1"
    account: str = "000000000000"
    s3: S3Endpoint | None = None
    """Where buckets are, if they are not folders of the home."""

    @classmethod
    def read(cls, home: Path | None = None) -> Settings:
        """Settings from the environment; ``home``, when given, wins over ``LIMBECK_HOME``."""
        found = home or Path(os.environ.get("LIMBECK_HOME") or Path.home() / ".limbeck")
        threads = os.environ.get("LIMBECK_THREADS") or str(os.cpu_count() or 1)
        if not threads.isdigit() or int(threads) < 1:
            raise InvalidInput(f'LIMBECK_THREADS is "{threads}"; expected a whole number from 1')
        region = os.environ.get("LIMBECK_REGION") or cls.region
        if not re.fullmatch(r"[a-z0-9-]{1,20}", region):
            raise InvalidInput(
                f'LIMBECK_REGION is "{region}"; expected lower-case letters, digits and dashes, at most 20'
            )
        account = os.environ.get("LIMBECK_ACCOUNT") or cls.account
        if not re.fullmatch(r"[0-9]{12}", account):
            raise InvalidInput(f'LIMBECK_ACCOUNT is "{account}"; expected 12 digits')
        return cls(found.expanduser().resolve(), int(threads), region, account, _s3_endpoint())

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
    def cache(self) -> Path:
        """What can be made again: embedded weights converted once."""
        return self.home / "cache"


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
