"""Stage 6: a trained student becomes a registered model: a folder that plain transformers loads, and a name.

Left in the folder: `model.safetensors`, configuration, tokenizer, chat template, generation config, `lineage.json`
(from what data, teacher and recipe it came, and what was measured) and `README.md`, the model card; and, for other
engines, a GGUF file with Ollama's `Modelfile` and `parity.json`. The name is a small file in the home's `models/`,
written last.
"""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from limbeck.errors import Conflict, DamagedArtifact, InvalidInput
from limbeck.inference.engine import Engine
from limbeck.inference.export import export, section
from limbeck.inference.parity import Parity
from limbeck.models import loading
from limbeck.models.catalog import registered_at
from limbeck.models.gguf_file import gguf_name
from limbeck.models.identity import fingerprint
from limbeck.models.loading import LoadedModel
from limbeck.recipe import Export
from limbeck.records import CustomModel, Report
from limbeck.settings import Settings
from limbeck.storage.workspace import Workspace, read_json, write_json, writing

__all__ = ["annotate", "check_name", "register", "registered_as"]

STAGE = "6-model"


def check_name(name: str, folder: Path, settings: Settings) -> None:
    """Refuse a name that a model of another job has. Raises `Conflict`."""
    registered = settings.models / f"{name}.json"
    if registered.exists() and registered_at(registered).path.parent.resolve() != folder.resolve():
        raise Conflict(f'a model named "{name}" is registered already ({registered}); choose another name')


def register(
    name: str,
    kind: str,
    base: str,
    student: LoadedModel,
    lineage: Mapping[str, Any],
    report: Report,
    table: str,
    exporting: Export,
    prompts: Sequence[Sequence[int]],
    settings: Settings,
    work: Workspace,
    inputs: Mapping[str, Any],
) -> CustomModel:
    """Write the model's folder and card, and register it under ``name``. ``table`` is the report's, for the card.

    ``prompts`` (token ids) are what the GGUF file is measured on. A model that cannot be written as one is registered
    all the same, and its card says why there is none.
    """
    check_name(name, work.folder, settings)

    def make(folder: Path) -> None:
        loading.save(student.model, student.renderer.tokenizer, folder)
        # In a folder of its own: beside an adapter_config.json transformers would load the adapter's base instead.
        if (adapter := work.folder / "4-training" / "adapter").exists():
            shutil.copytree(adapter, folder / "adapter", dirs_exist_ok=True)  # some of it, where it was broken off
        exported = _export(student, folder, exporting, prompts, lineage["system"], settings, work)
        whole = {
            "name": name,
            "kind": kind,
            "base": base,
            "fingerprint": fingerprint(folder),
            "lineage": {**lineage, "export": _lineage(exported), "versions": _versions(), "report": report.to_json()},
        }
        write_json(folder / "lineage.json", whole)
        with writing(folder / "README.md") as file:
            file.write(_card(name, kind, base, lineage, exported, report, table))

    folder = work.step(STAGE, {"name": name, **inputs}, make)
    known = read_json(folder / "lineage.json")
    registered = settings.models / f"{name}.json"
    write_json(registered, {**known, "path": settings.kept(folder)})
    return registered_as(name, settings)


def registered_as(name: str, settings: Settings) -> CustomModel:
    """The model registered under ``name``. Raises `DamagedArtifact` where there is none."""
    return registered_at(settings.models / f"{name}.json")


def annotate(name: str, about: Mapping[str, Any], settings: Settings) -> None:
    """Add to what is known of a registered model: the names others have for it."""
    registered = settings.models / f"{name}.json"
    known = read_json(registered)
    write_json(registered, {**known, "lineage": {**known["lineage"], **about}})


def _versions() -> dict[str, str]:
    packages = ("limbeck", "torch", "transformers", "safetensors", "numpy")
    return {
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


def _export(
    student: LoadedModel,
    folder: Path,
    exporting: Export,
    prompts: Sequence[Sequence[int]],
    system: str | None,
    settings: Settings,
    work: Workspace,
) -> Parity | str:
    """Write the GGUF file and measure it; the reason where there is none."""
    if exporting.gguf == "none":
        return "the recipe asks for none"
    try:
        parity = export(Engine(student), folder, exporting.gguf, prompts, settings.threads, system)
    # Hours of training are not thrown away for want of one more format.
    except (InvalidInput, DamagedArtifact) as error:
        work.progress.say(f"registry: no GGUF file: {error}")
        return str(error)
    work.progress.say(f"registry: {gguf_name(exporting.gguf)}: {parity}")
    return parity


def _lineage(exported: Parity | str) -> dict[str, Any]:
    if isinstance(exported, str):
        return {"gguf": None, "reason": exported}
    return {"gguf": gguf_name(exported.quantization), "parity": exported.to_json()}


def _card(
    name: str,
    kind: str,
    base: str,
    lineage: Mapping[str, Any],
    exported: Parity | str,
    report: Report,
    table: str,
) -> str:
    recipe = json.dumps(lineage["recipe"], indent=2, ensure_ascii=False)
    verdict = report.verdict[0].upper() + report.verdict[1:]
    made = {"distillation": "distilled from", "fine-tuning": "fine-tuned from"}.get(
        kind, "trained further on text from"
    )
    timed = any("latency" in measured for measured in report.models.values())
    how = " Requests were timed one after another on the machine that trained the model" if timed else ""
    for part, measured in report.models.items():
        timed_so = measured.get("latency", {})
        if place := timed_so.get("place"):
            how += f", but for the {part}'s, {place}" + " and several at once" * timed_so.get("at_once", True)
    how += "." * timed
    return f"""---
library_name: transformers
pipeline_tag: text-generation
---
# {name}

A model {made} `{base}` with Limbeck. {verdict}

## Measured on {report.rows} held-out {"rows" if timed else "documents"}

```
{table}
```

Intervals are 95%, by bootstrap.{how}

## Lineage

| what | SHA-256 |
|---|---|
{chr(10).join(f"| {what} | `{found}` |" for what, found in lineage["hashes"].items())}

Recipe:

```json
{recipe}
```

## Use

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained(".")
tokenizer = AutoTokenizer.from_pretrained(".")
{_asked(lineage["system"])}```

{section(exported)}"""


def _asked(system: str | None) -> str:
    """Lines of Python that ask a model the way it learned to be asked."""
    turns = [{"role": "system", "content": system}] if system else []
    turns.append({"role": "user", "content": "…"})
    return f"""
messages = {json.dumps(turns, ensure_ascii=False)}
asked = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True, return_tensors="pt")
answer = model.generate(**asked, max_new_tokens=64)[0, asked["input_ids"].shape[1] :]
print(tokenizer.decode(answer, skip_special_tokens=True))
"""
