"""The Modelfile with which Ollama takes a GGUF file: its chat template in Ollama's language, and where turns end.

    ollama create my-student -f Modelfile

A chat template is a program, and Ollama runs another language, so nothing is translated word for word: three formats
are known, each in both languages, and a template is one of them if it writes the same text for a few conversations.
The system prompt that a model learned with becomes SYSTEM, or else the one that the template puts in by itself. Any
other template is left out, and said to be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from limbeck.models.template import chat_template, render, turn_end
from limbeck.storage.workspace import read_json

__all__ = ["FORMATS", "Format", "modelfile"]

Turns = Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class Format:
    """A way of writing conversations: in Ollama's language, and in ours to compare with."""

    name: str
    ollama: str
    """A Go template over ``.Messages``, which hold the system prompt too."""
    write: Callable[[Turns], str]
    ends: tuple[str, ...]
    """The texts that end an assistant's turn."""


def _chatml(turns: Turns) -> str:
    said = "".join(f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in turns)
    return f"{said}<|im_start|>assistant\n"


def _llama3(turns: Turns) -> str:
    header = "<|start_header_id|>{}<|end_header_id|>\n\n"
    said = "".join(f"{header.format(turn['role'])}{turn['content']}<|eot_id|>" for turn in turns)
    return said + header.format("assistant")


def _gemma(turns: Turns) -> str:
    said, system = "", ""
    for turn in turns:
        if turn["role"] == "system":
            system = f"{turn['content']}\n\n"
            continue
        role = "model" if turn["role"] == "assistant" else "user"
        said += f"<start_of_turn>{role}\n{system}{turn['content']}<end_of_turn>\n"
        system = ""
    return f"{said}<start_of_turn>model\n"


FORMATS = (
    Format(
        "ChatML",
        "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n",
        _chatml,
        ("<|im_end|>",),
    ),
    Format(
        "Llama 3",
        "{{- range .Messages }}<|start_header_id|>{{ .Role }}<|end_header_id|>\n\n"
        "{{ .Content }}<|eot_id|>{{ end }}<|start_header_id|>assistant<|end_header_id|>\n\n",
        _llama3,
        ("<|eot_id|>",),
    ),
    Format(
        "Gemma",
        '{{- $system := "" }}{{ range .Messages }}'
        '{{ if eq .Role "system" }}{{ $system = print .Content "\\n\\n" }}'
        '{{ else if eq .Role "assistant" }}<start_of_turn>model\n{{ .Content }}<end_of_turn>\n'
        '{{ else }}<start_of_turn>user\n{{ $system }}{{ .Content }}<end_of_turn>\n{{ $system = "" }}'
        "{{ end }}{{ end }}<start_of_turn>model\n",
        _gemma,
        ("<end_of_turn>",),
    ),
)

QUOTES = '"""'
"""Around a text of several lines; there is no way to write them within one."""

ASKED: Turns = ({"role": "user", "content": "A?"},)
GONE_ON: Turns = (*ASKED, {"role": "assistant", "content": "B."}, {"role": "user", "content": "C?"})
INSTRUCTED: Turns = ({"role": "system", "content": "S."}, *GONE_ON)


def modelfile(folder: Path, gguf: str, system: str | None = None) -> str:
    """The Modelfile for the file called ``gguf`` beside it, made from the model in ``folder``.

    ``system``: the system prompt the model learned with.
    """
    lines = [f"FROM ./{gguf}"]
    template = chat_template(folder)
    tokens = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").exists() else {}
    known = _known(template, tokens) if template else None
    if known is not None:
        found, own = known
        system = system or own
        lines.append(f'TEMPLATE """{found.ollama}"""')
        lines += [f'PARAMETER stop "{end}"' for end in found.ends]
    elif template is None:
        lines.append("# No TEMPLATE: the model has no chat template. It goes on with the text it is given.")
    else:
        formats = ", ".join(form.name for form in FORMATS)
        lines.append(f"# No TEMPLATE: the model's chat template is none of those that can be translated ({formats}).")
        lines.append(
            "# It is in the GGUF file as tokenizer.chat_template; a TEMPLATE for it has to be written by hand."
        )
        end = (turn_end(template, tokens) or "").strip()
        lines += [f'PARAMETER stop "{end}"'] if end and '"' not in end and "\n" not in end else []
    if system and QUOTES in system:
        lines.append(
            f"# No SYSTEM: the system prompt that the model learned with has {QUOTES} in it, which ends a text here."
        )
    elif system:
        lines.append(f"SYSTEM {QUOTES}{system}{QUOTES}")
    return "\n".join(lines) + "\n"


def _known(template: str, tokens: Mapping[str, Any]) -> tuple[Format, str | None] | None:
    """The format a template is, and the system prompt it puts where there is none; None if it is no known one."""
    bos = tokens.get("bos_token")
    first = str(bos.get("content") if isinstance(bos, dict) else bos or "")
    written = partial(render, template, tokens=tokens)
    # The beginning-of-sequence token is put by Ollama itself where the file says so; a template may write it too.
    for known, start in product(FORMATS, ("", first)):
        found = _match(written, partial(_expected, known, start))
        if found is not None:
            return known, found or None
    return None


def _expected(known: Format, start: str, turns: Turns) -> str:
    return start + known.write(turns)


def _match(written: Callable[[Turns], str | None], expected: Callable[[Turns], str]) -> str | None:
    """The system prompt a template puts by itself, "" for none; None if it does not write what is expected."""
    if written(INSTRUCTED) not in (expected(INSTRUCTED), None):  # Gemma 2 refuses system prompts
        return None
    before, _, after = expected(({"role": "system", "content": "\0"}, *ASKED)).partition("\0")
    asked = written(ASKED) or ""
    own = "" if asked == expected(ASKED) else asked.removeprefix(before).removesuffix(after)
    preset: Turns = ({"role": "system", "content": own},) if own else ()
    same = all(written(turns) == expected((*preset, *turns)) for turns in (ASKED, GONE_ON))
    return own if same and QUOTES not in own else None
