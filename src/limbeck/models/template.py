"""A folder's chat templates, found and rendered as transformers does it, without transformers.

`chat.Renderer` is the one that turns conversations into tokens, by a tokenizer that renders in the `environment` here;
`render` is for an export, which must know what a template puts between turns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from limbeck.models.today import strftime_now
from limbeck.storage.workspace import read_json

__all__ = ["MORE_TEMPLATES", "PLAIN", "chat_template", "chat_templates", "environment", "render", "turn_end"]

PLAIN = (
    r"{% for message in messages %}{{ message['role'] | capitalize }}{{ ':\n' }}{{ message['content'] }}"
    r"{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n\n' }}{% endfor %}"
    r"{% if add_generation_prompt %}{{ 'Assistant:\n' }}{% endif %}"
)
"""For a model that has none, as base models: what is made of it keeps this one."""

MORE_TEMPLATES = "additional_chat_templates"
"""The folder of a model's further templates: one for conversations with tools, say."""

MARK = "\ue000end\ue001"
"""Stands for an assistant's words; from Unicode's private use area, so no template writes it itself."""


def chat_templates(folder: Path) -> dict[str, str]:
    """The chat templates of a folder by name, from where transformers takes a tokenizer's.

    Raises `DamagedArtifact` for a configuration that cannot be read.
    """
    files = {path.stem: path for path in (folder / MORE_TEMPLATES).glob("*.jinja")}
    if (folder / "chat_template.jinja").exists():
        files["default"] = folder / "chat_template.jinja"
    if files:
        return {name: path.read_text(encoding="utf-8") for name, path in files.items()}
    config = folder / "tokenizer_config.json"
    found = read_json(config).get("chat_template") if config.exists() else None
    rows: list[dict[str, Any]] = found if isinstance(found, list) else [{"name": "default", "template": found}]
    return {row["name"]: row["template"] for row in rows if row.get("name") and row.get("template")}


def chat_template(folder: Path) -> str | None:
    """The one for conversations without tools; None if there is none."""
    return chat_templates(folder).get("default")


@cache
def environment() -> ImmutableSandboxedEnvironment:
    """Jinja as transformers sets it for chat templates (utils/chat_template_utils.py), so that they write the same."""
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, "jinja2.ext.loopcontrols"]
    )
    made.filters["tojson"] = _to_json
    made.globals["raise_exception"] = _refuse
    made.globals["strftime_now"] = strftime_now
    return made


def render(
    template: str, messages: Sequence[Mapping[str, str]], tokens: Mapping[str, Any], answer_follows: bool = True
) -> str | None:
    """A conversation as the template writes it; None if it refuses. ``tokens``: ``bos_token`` and its like."""
    names = {
        name: value.get("content") if isinstance(value, dict) else value
        for name, value in tokens.items()
        if name.endswith("_token")
    }
    try:
        made = environment().from_string(template)
        given = {"messages": list(messages), "tools": None, "documents": None, "add_generation_prompt": answer_follows}
        return made.render(**given, **names)
    except (TemplateError, TypeError, ValueError, LookupError):
        return None


def turn_end(template: str, tokens: Mapping[str, Any]) -> str | None:
    """What the template writes after an assistant's words; None if it cannot be told."""
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": MARK}]
    written = render(template, turns, tokens, answer_follows=False)
    return written.partition(MARK)[2] or None if written else None


class _Generation(Extension):
    """``{% generation %}…{% endgeneration %}`` marks what an assistant said; nothing is done with it here."""

    tags = {"generation"}  # noqa: RUF012 (jinja2 declares it so)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    """Jinja's own filter escapes what HTML needs escaped; a model was trained on plain JSON."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


def _refuse(message: str) -> None:
    raise TemplateError(message)
