"""The errors a user can meet, drawn as a tree. Each carries the name and the HTTP status it has on the wire.

    LimbeckError                    500 InternalServerException
    ├── InvalidInput                400 ValidationException           the user can mend it
    │   ├── InvalidRecipe                                             a recipe that cannot be run
    │   ├── InvalidDataset                                            a file with faults, all told at once
    │   └── NotYet                                                    asked for, named, not built
    ├── AccessDenied                403 AccessDeniedException         not signed, or signed wrongly
    ├── Unknown                     404 ResourceNotFoundException     nothing of that id, name or ARN
    │   ├── UnknownModel                                              no model
    │   └── UnknownObject                                             no bucket, object or upload
    ├── Conflict                    400 ConflictException             a name that is taken, a job that is running
    ├── QuotaExceeded               400 ServiceQuotaExceededException too many of something at once
    ├── TooManyTags                 400 TooManyTagsException
    ├── NotReady                    429 ModelNotReadyException        a model on its way into memory; ask again
    ├── DamagedArtifact             500 InternalServerException       a file that is not what its manifest says
    ├── StorageFailed               500 InternalServerException       the S3 endpoint or a file is away or refuses us
    ├── TeacherFailed               424 ModelErrorException
    ├── ModelFailed                 424 ModelErrorException           a hosted model broke off
    ├── ModelTimedOut               408 ModelTimeoutException         a hosted model took too long
    ├── TrainingDiverged            500 InternalServerException
    └── Stopped                     (a user's wish, not a fault)      how to go on is in the message
        └── BudgetReached                                             the next request could exceed a cap of the user's

A message says what was found, where, what was expected and the way out.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import ClassVar

__all__ = [
    "AccessDenied",
    "BudgetReached",
    "Conflict",
    "DamagedArtifact",
    "InvalidDataset",
    "InvalidInput",
    "InvalidRecipe",
    "LimbeckError",
    "ModelFailed",
    "ModelTimedOut",
    "NotReady",
    "NotYet",
    "QuotaExceeded",
    "Stopped",
    "StorageFailed",
    "TeacherFailed",
    "TooManyTags",
    "TrainingDiverged",
    "Unknown",
    "UnknownModel",
    "UnknownObject",
    "is_full",
]

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What a write that finds no room ends with: the system names no file then."""


class LimbeckError(Exception):
    """Anything Limbeck raises on purpose."""

    api_name: ClassVar[str] = "InternalServerException"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1


class InvalidInput(LimbeckError):
    """What the user gave cannot be used as it stands."""

    api_name = "ValidationException"
    status = 400
    exit_code = 2


class InvalidRecipe(InvalidInput):
    """A recipe with one or more faults; ``faults`` holds one sentence for each."""

    def __init__(self, where: str, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(f"{where}: {fault}" for fault in self.faults))


class InvalidDataset(InvalidInput):
    """A data file with too few usable rows; ``faults`` holds one line for each refused row."""

    def __init__(self, message: str, faults: Sequence[str] = ()) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join([*self.faults, message]))


class NotYet(InvalidInput):
    """Something Limbeck has a name for and cannot do yet."""


class AccessDenied(LimbeckError):
    """Who asks may not, or did not say who they are. ``wire_name`` may be one of AWS's narrower names."""

    api_name = "AccessDeniedException"
    status = 403

    def __init__(self, message: str, api_name: str | None = None) -> None:
        super().__init__(message)
        self.wire_name = api_name or self.api_name


class Unknown(LimbeckError):
    """Nothing of that id, name, ARN or path."""

    api_name = "ResourceNotFoundException"
    status = 404
    exit_code = 2


class UnknownModel(Unknown):
    """No model of that id, name or path."""


class UnknownObject(Unknown):
    """No such bucket, object or upload; ``code`` is S3's name for it."""

    def __init__(self, message: str, code: str = "NoSuchKey") -> None:
        super().__init__(message)
        self.code = code


class Conflict(LimbeckError):
    """The name is taken, or another process has the job."""

    api_name = "ConflictException"
    status = 400
    exit_code = 2


class QuotaExceeded(LimbeckError):
    """Too many of something at once; the message says how many there may be."""

    api_name = "ServiceQuotaExceededException"
    status = 400


class TooManyTags(LimbeckError):
    """More tags than a resource may have."""

    api_name = "TooManyTagsException"
    status = 400


class NotReady(LimbeckError):
    """The model is on its way into memory, or there is no room for it now; the same request may succeed soon."""

    api_name = "ModelNotReadyException"
    status = 429


class DamagedArtifact(LimbeckError):
    """A stored file is missing or is not what its manifest says."""


class StorageFailed(LimbeckError):
    """Where our objects or answers lie does not answer, or refuses us."""


class TeacherFailed(LimbeckError):
    """The teacher could not answer."""

    api_name = "ModelErrorException"
    status = 424


class ModelFailed(LimbeckError):
    """A hosted model broke off in the middle of an answer."""

    api_name = "ModelErrorException"
    status = 424


class ModelTimedOut(LimbeckError):
    """A hosted model took longer than it may."""

    api_name = "ModelTimeoutException"
    status = 408


class TrainingDiverged(LimbeckError):
    """Loss or gradient stopped being finite."""


class Stopped(LimbeckError):
    """The user asked to stop; the work so far is kept."""

    exit_code = 130


class BudgetReached(Stopped):
    """A cap on tokens or money stands in the way of the next request; what is answered is kept."""


def is_full(error: BaseException) -> bool:
    """Whether a disk has no room left: the system's own error, or the words of SQLite, SQLAlchemy and DuckDB for it."""
    if isinstance(error, OSError):
        return error.errno in FULL
    said = str(error)
    return "database or disk is full" in said or any(os.strerror(number) in said for number in FULL)
