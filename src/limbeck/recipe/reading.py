"""Recipes as people write them: YAML read strictly, paths from the file's folder, faults in sentences."""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from limbeck.errors import InvalidRecipe

__all__ = ["TEACHERS", "StrictLoader", "anchor_paths", "assign", "kind_of", "sections", "sentence"]

TEACHERS = ("teacher", "trial.teachers", "trial.judge", "synthesis.augment.writer", "curation.judge.model")
"""Where a recipe names who answers, judges or writes."""


def assign(values: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted ``key`` in nested dictionaries, making those that are missing."""
    *sections, last = key.split(".")
    for section in sections:
        inner = values.setdefault(section, {})
        if not isinstance(inner, dict):
            raise InvalidRecipe("recipe", [f"{key}: {section} is {kind_of(inner)}; expected a section with keys"])
        values = inner
    values[last] = value


class StrictLoader(yaml.SafeLoader):
    """YAML that refuses a key said twice, and reads 1e-4 as the number it is."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """The mapping, if every key in it is said once."""
        seen: set[Any] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f'the key "{key.value}" is said twice', problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(?:\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def anchor_paths(values: dict[str, Any], folder: Path) -> None:
    """Let the relative paths in a recipe's values start from ``folder``."""
    source = values.get("source")
    if isinstance(source, dict):
        for key in ("prompts", "held_out", "validation", "golden"):
            found = source.get(key)
            if isinstance(found, str):
                source[key] = _anchored(found, folder)
            elif isinstance(found, list):
                source[key] = [_anchored(path, folder) if isinstance(path, str) else path for path in found]
        logs = source.get("logs")
        if isinstance(logs, dict) and isinstance(logs.get("uri"), str) and not logs["uri"].startswith("s3://"):
            logs["uri"] = _anchored(logs["uri"], folder)
    curation = values.get("curation")
    if isinstance(curation, dict) and isinstance(curation.get("json_schema"), str):
        curation["json_schema"] = _anchored(curation["json_schema"], folder)
    for chosen in sections(values, (*TEACHERS, "curation.judge", "student")):
        if str(chosen.get("model", "")).startswith(("./", "../")):
            chosen["model"] = str((folder / chosen["model"]).resolve())


def sections(values: Any, keys: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The sections at dotted ``keys`` of plain values, all those of a list; a key that leads to none is passed over."""
    for key in keys:
        found = values
        for part in key.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        yield from (one for one in (found if isinstance(found, list) else [found]) if isinstance(one, dict))


def _anchored(path: str, folder: Path) -> str:
    return str((folder / Path(path).expanduser()).resolve())


def kind_of(value: Any) -> str:
    """What a value is, in a word for a message."""
    names = {
        dict: "keys",
        list: "a list",
        str: "text",
        int: "a number",
        float: "a number",
        type(None): "nothing",
    }
    return names.get(type(value), type(value).__name__)


def sentence(fault: Any, model: type[BaseModel]) -> str:
    """A fault that pydantic found in a ``model``, told as where, what and the way out."""
    where = ".".join(str(part) for part in fault["loc"])
    found = fault.get("input")
    match fault["type"]:
        case "extra_forbidden":
            near = difflib.get_close_matches(str(fault["loc"][-1]), _keys_at(fault["loc"][:-1], model), n=1)
            hint = (
                f'; did you mean "{near[0]}"?'
                if near
                else f"; expected one of {', '.join(_keys_at(fault['loc'][:-1], model))}"
            )
            return f"{where}: unknown key{hint}"
        case "missing":
            return f"{where}: missing"
        case "value_error":
            text = str(fault["msg"]).removeprefix("Value error, ")
            return f"{where}: {text}" if where else text
        case _:
            message = str(fault["msg"])[0].lower() + str(fault["msg"])[1:]
            return f'{where}: found "{found}"; {message}'


def _keys_at(location: tuple[Any, ...], model: Any) -> list[str]:
    for part in location:
        if not (isinstance(model, type) and issubclass(model, BaseModel) and part in model.model_fields):
            return []
        model = model.model_fields[part].annotation
        if isinstance(model, types.UnionType) or typing.get_origin(model) is typing.Union:
            model = next((a for a in typing.get_args(model) if isinstance(a, type) and issubclass(a, BaseModel)), None)
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []
