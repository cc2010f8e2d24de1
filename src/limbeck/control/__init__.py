"""The control plane: one plain function for each operation, named as the API names it.

A function gets what was asked (plain values, checked against the operation's shape) and the `Desk` it works at, and
returns the answer's members. It knows nothing of HTTP, never reaches torch, and does no work that takes long: that it
writes down and enqueues.

    desk             rows, queue and buckets; lists, tokens, pages
    shelf            custom models under AWS's names
    models           base and custom models
    customization    fine-tuning and distillation jobs; hyperparameters
    deployments      where models answer: on demand, provisioned
    hosting          what a model identifier stands for
    imports          models brought along
    batch            files of requests
    evaluation       evaluation jobs
    account          invocation logging, tags
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from limbeck.control import account, batch, customization, deployments, evaluation, imports, models
from limbeck.control.account import LOGGING
from limbeck.control.desk import PAGE, Answered, Asked, Desk, open_desk
from limbeck.control.hosting import invocable, resolve

__all__ = ["LOGGING", "OPERATIONS", "Desk", "Function", "invocable", "is_brief", "open_desk", "resolve"]

Function = Callable[[Asked, Desk], Answered]


def _operations() -> dict[str, Function]:
    """Every public function of the rooms above that is named like an operation, under the API's name."""
    found: dict[str, Function] = {}
    for room in (account, batch, customization, deployments, evaluation, imports, models):
        for name in room.__all__:
            if re.match(r"(batch|create|delete|get|list|put|stop|tag|untag|update)_", name):
                found["".join(part.capitalize() for part in name.split("_"))] = getattr(room, name)
    return found


OPERATIONS: Mapping[str, Function] = _operations()


def is_brief(name: str, asked: Asked, desk: Desk) -> bool:
    """Whether an operation takes a few milliseconds at most, and so need not be done on a thread, which costs as much
    again: it only looks, at rows in a file of this machine, a page of a hundred at most."""
    return name.startswith(("Get", "List")) and desk.is_near and asked.get("maxResults", PAGE) <= PAGE
