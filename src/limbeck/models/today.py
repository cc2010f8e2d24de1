"""What day a chat template may say it is: within a job the one on which it began, otherwise the machine's.

Templates of Llama 3 and others put the date into every prompt. A job that is gone on with after midnight would then
read other tokens than those it has begun to learn from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime

__all__ = ["as_of", "dated", "strftime_now"]

_MOMENT: ContextVar[datetime | None] = ContextVar("moment", default=None)

CALL = re.compile(r"""\bstrftime_now\(\s*(["'])(.*?)\1\s*\)""")


@contextmanager
def as_of(moment: datetime) -> Iterator[None]:
    """Templates that are rendered meanwhile, in this thread, say it is ``moment``."""
    before = _MOMENT.set(moment)
    try:
        yield
    finally:
        _MOMENT.reset(before)


def strftime_now(form: str) -> str:
    """The function of this name that templates call."""
    return (_MOMENT.get() or datetime.now()).strftime(form)


def dated(template: str) -> str:
    """``template`` for a renderer that has a `strftime_now` of its own: a job's moment instead of the calls."""
    if _MOMENT.get() is None:
        return template
    return CALL.sub(lambda call: call[1] + strftime_now(call[2]) + call[1], template)
