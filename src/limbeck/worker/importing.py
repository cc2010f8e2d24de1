"""Weights from a bucket become a model of this home: fetched, looked over, adopted, registered."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from limbeck.arns import Arns
from limbeck.errors import DamagedArtifact, InvalidInput
from limbeck.models.importing import GGUF_NAME, Imported, adopt, inspect
from limbeck.records import digest
from limbeck.storage.reading import Row
from limbeck.storage.workspace import file_digest, write_json
from limbeck.worker.labor import Bench

__all__ = ["bring_in"]


def bring_in(row: Row, bench: Bench) -> tuple[str, Mapping[str, Any], str]:
    """The model of an import job, or of CreateCustomModel; gives the status, and the model's ARN.

    What was fetched before a crash is fetched anew: a folder that is there whole is the adopted one.
    """
    name, uri = row.facts["model"], row.facts["source"]
    place = bench.settings.imported / row.arn.rsplit("/", 1)[-1]
    if place.exists():
        found = inspect(place / GGUF_NAME if (place / GGUF_NAME).exists() else place)
    else:
        fetched = bench.settings.scratch / f"import-{place.name}"
        shutil.rmtree(fetched, ignore_errors=True)
        try:
            found = adopt(_fetch(uri, fetched, bench), place)
        except (InvalidInput, DamagedArtifact) as error:  # told of where the user has it
            raise InvalidInput(str(error).replace(str(fetched), uri.rstrip("/"))) from None
        finally:
            shutil.rmtree(fetched, ignore_errors=True)
    imported = row.kind == "model-import-job"
    arns = Arns(bench.settings.region, bench.settings.account)
    arn = arns.resource("imported-model", place.name) if imported else row.arn
    lineage = {
        "arn": arn,
        "job_arn": row.arn,
        "job_name": row.name,
        "source": uri,
        "created": row.created.isoformat(timespec="milliseconds"),
        "parameters": found.parameters,
        "architecture": found.architecture,
        "has_chat_template": found.has_chat_template,
        "notes": list(found.notes),
    }
    known = {
        "name": name,
        "kind": "imported" if imported else "adopted",
        "base": found.architecture,
        "fingerprint": _fingerprint(found),
        "lineage": lineage if imported else {**lineage, "base_id": Arns.id_of(found.architecture)},
        "path": bench.settings.kept(found.path),
    }
    write_json(bench.settings.models / f"{name}.json", known)
    return ("Completed" if imported else "Active"), {"found": asdict(found) | {"path": known["path"]}}, arn


def _fetch(uri: str, folder: Path, bench: Bench) -> Path:
    """The objects under ``uri`` in ``folder``; one GGUF file comes as itself."""
    prefix = uri.rstrip("/")
    objects = list(bench.objects.within(uri))
    if not objects:
        raise InvalidInput(f"{uri}: nothing is there; expected a folder in Hugging Face layout, or a .gguf file")
    folder.mkdir(parents=True)
    for one in objects:
        bench.stop.check()
        path = folder / (one.uri.removeprefix(prefix).lstrip("/") or one.uri.rsplit("/", 1)[-1])
        path.parent.mkdir(parents=True, exist_ok=True)
        bench.objects.fetch(one.uri, path)
    files = [path for path in folder.iterdir() if path.is_file()]
    alone = len(files) == 1 and files[0].suffix == ".gguf"
    return files[0] if alone else folder


def _fingerprint(found: Imported) -> str:
    """Of the adopted files; torch is not imported for it."""
    files = [found.path] if found.path.is_file() else sorted(path for path in found.path.iterdir() if path.is_file())
    return digest([[path.name, file_digest(path)] for path in files])
