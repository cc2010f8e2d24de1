"""Recipes as people write them: YAML read strictly, paths from the file's folder, faults in sentences."""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from limbeck.errors import InvalidRecipe

__all__ = ["TEACHERS", "StrictLoader", "anchor_paths", "assign", "kind_of", "sections", "sentences", "yaml_fault"]

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
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key that is no word", problem_mark=key.start_mark)
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
        for key in ("model", "tokenizer"):
            if key in chosen:
                chosen[key] = _model(chosen[key], folder)
    trial = values.get("trial")
    if isinstance(trial, dict) and isinstance(trial.get("teachers"), list):
        trial["teachers"] = [_model(one, folder) for one in trial["teachers"]]


def sections(values: Any, keys: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The sections at dotted ``keys`` of plain values, all those of a list; a key that leads to none is passed over."""
    for key in keys:
        found = values
        for part in key.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        yield from (one for one in (found if isinstance(found, list) else [found]) if isinstance(one, dict))


def _anchored(path: str, folder: Path) -> str:
    return str((folder / Path(path).expanduser()).resolve())


def _model(name: Any, folder: Path) -> Any:
    """A model's name, which may be a path: one that begins with a dot starts from ``folder``."""
    return str((folder / name).resolve()) if isinstance(name, str) and name.startswith(("./", "../")) else name


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


def yaml_fault(error: yaml.YAMLError) -> str:
    """What is wrong with a text of YAML, and where in it."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None or problem is None:
        return " ".join(str(error).split())
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"


def sentences(faults: Iterable[Any], model: type[BaseModel]) -> list[str]:
    """The faults that pydantic found in a ``model``, one for each place in it.

    Of a value that may be of several kinds it tells what each finds wrong; shown is what the kind says that it is of.
    """
    by_place: dict[str, list[Any]] = {}
    for fault in faults:
        location = fault["loc"] if fault["type"] == "extra_forbidden" else _location(fault["loc"], model)
        by_place.setdefault(".".join(map(str, location)), []).append(fault)
    told = []
    for where, found in by_place.items():
        fitting = [fault for fault in found if not fault["type"].endswith("_type")] or found
        sentence = _sentence(where, fitting, model)
        told += [sentence] if where else sentence.split("\n")  # the rules that bind sections tell theirs in one
    return told


def _sentence(where: str, faults: Sequence[Any], model: type[BaseModel]) -> str:
    fault, shown = faults[0], f"{where}: " if where else ""
    match fault["type"]:
        case "extra_forbidden":
            keys = _keys_at(fault["loc"][:-1], model)
            near = difflib.get_close_matches(str(fault["loc"][-1]), keys, n=1)
            hint = f'; did you mean "{near[0]}"?' if near else f"; expected one of {', '.join(keys)}"
            return f"{shown}unknown key{hint}"
        case "missing":
            return f"{shown}missing"
        case "value_error":
            return shown + _said(fault)
    wanted = ", or ".join(dict.fromkeys(_wanted(one) for one in faults))
    value = fault.get("input")
    found = kind_of(value) if isinstance(value, dict | list | None) else f'"{value}"'
    return f"{shown}found {'an empty list' if value == [] else found}; expected {wanted}"


def _said(fault: Any) -> str:
    """What a check of ours says of a value."""
    return str(fault["msg"]).removeprefix("Value error, ")


def _wanted(fault: Any) -> str:
    """What pydantic expected in a value's place, in our words."""
    more = fault.get("ctx", {})
    match fault["type"]:
        case "tuple_type" | "list_type":
            return "a list"
        case "model_type" | "model_attributes_type" | "dict_type":
            return "keys"
        case "path_type":
            return "a path"
        case "string_type" | "string_too_short":
            return "text"
        case "bool_type" | "bool_parsing":
            return "true or false"
        case "int_type" | "int_parsing" | "int_from_float":
            return "a whole number"
        case "float_type" | "float_parsing" | "finite_number":
            return "a number"
        case "literal_error":
            return str(more["expected"]).replace("'", "")
        case "greater_than":
            return f"more than {more['gt']:g}"
        case "greater_than_equal":
            return f"{more['ge']:g} or more"
        case "less_than":
            return f"less than {more['lt']:.12g}"
        case "less_than_equal":
            return f"{more['le']:.12g} or less"
        case "too_short":
            return f"a list of {more['min_length']} or more"
        case "too_long":
            return f"a list of {more['max_length']} or fewer"
    return _said(fault).removeprefix("expected ")


def _location(told: tuple[Any, ...], model: type[BaseModel]) -> tuple[Any, ...]:
    """Where a fault is, without the names that pydantic has for the kinds a value may be of."""
    kept: tuple[Any, ...] = ()
    for part in told:
        keys = _keys_at(kept, model)
        if isinstance(part, int) or (part in keys if keys else re.fullmatch(r"\w+", str(part))):
            kept = (*kept, part)
    return kept


def _keys_at(location: tuple[Any, ...], model: Any) -> list[str]:
    for part in location:
        if not (isinstance(model, type) and issubclass(model, BaseModel) and part in model.model_fields):
            return []
        model = model.model_fields[part].annotation
        if isinstance(model, types.UnionType) or typing.get_origin(model) is typing.Union:
            model = next((a for a in typing.get_args(model) if isinstance(a, type) and issubclass(a, BaseModel)), None)
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []
