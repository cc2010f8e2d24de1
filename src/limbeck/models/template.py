"""A folder's chat template, found and rendered without transformers: what an export must know of it.

`chat.Renderer` is the one that turns conversations into tokens; this reads a template only to see what it puts
between turns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from limbeck.storage.workspace import read_json

__all__ = ["PLAIN", "chat_template", "render", "turn_end"]

PLAIN = (
    r"{% for message in messages %}{{ message['role'] | capitalize }}{{ ':\n' }}{{ message['content'] }}"
    r"{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n\n' }}{% endfor %}"
    r"{% if add_generation_prompt %}{{ 'Assistant:\n' }}{% endif %}"
)
"""For a model that has none, as base models: what is made of it keeps this one."""

MARK = "\ue000end\ue001"
"""Stands for an assistant's words; from Unicode's private use area, so no template writes it itself."""


def chat_template(folder: Path) -> str | None:
    """The text of a folder's chat template, where transformers looks for it; None if there is none."""
    if (folder / "chat_template.jinja").exists():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    for file in ("chat_template.json", "tokenizer_config.json"):
        found = read_json(folder / file).get("chat_template") if (folder / file).exists() else None
        if isinstance(found, list):
            found = next((row.get("template") for row in found if row.get("name") == "default"), None)
        if isinstance(found, str) and found:
            return found
    return None


def render(
    template: str, messages: Sequence[Mapping[str, str]], tokens: Mapping[str, Any], answer_follows: bool = True
) -> str | None:
    """A conversation as the template writes it; None if it refuses. ``tokens``: ``bos_token`` and its like."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals |= {"raise_exception": _refuse, "strftime_now": lambda form: datetime.now().strftime(form)}
    names = {
        name: value.get("content") if isinstance(value, dict) else value
        for name, value in tokens.items()
        if name.endswith("_token")
    }
    try:
        made = environment.from_string(template)
        return made.render(messages=list(messages), add_generation_prompt=answer_follows, tools=None, **names)
    except (TemplateError, TypeError, ValueError, LookupError):
        return None


def turn_end(template: str, tokens: Mapping[str, Any]) -> str | None:
    """What the template writes after an assistant's words; None if it cannot be told."""
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": MARK}]
    written = render(template, turns, tokens, answer_follows=False)
    return written.partition(MARK)[2] or None if written else None


def _refuse(message: str) -> None:
    raise TemplateError(message)
