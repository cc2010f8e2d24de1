"""Homes to serve from: a tiny teacher that was taught, a tiny student that was not, and buckets of data."""

import shutil
from pathlib import Path

from tests.conftest import make_model

TEACHER = "test.taught-v1:0"
STUDENT = "test.small-v1:0"
ENTRY = """- id: {id}
  name: {name}
  provider: Tests
  family: llama
  licence: none
  source: {path}
  context_tokens: 512
  input_modalities: [TEXT]
  output_modalities: [TEXT]
  prices: {{input: 0.001, output: 0.002}}
"""


def tiny_home(home: Path, taught: Path) -> Path:
    """``home`` with both models in its catalog; ``taught`` is the registered model that becomes the teacher."""
    shutil.copytree(taught, home / "taught", dirs_exist_ok=True)
    for extra in ("manifest.json", ".inputs.json", "lineage.json"):
        (home / "taught" / extra).unlink(missing_ok=True)
    make_model(home / "small", layers=2, seed=1, context=1024)  # room for a tool's description
    entries = [
        ENTRY.format(id=TEACHER, name="taught", path=home / "taught"),
        ENTRY.format(id=STUDENT, name="small", path=home / "small"),
    ]
    (home / "catalog.yaml").write_text("".join(entries))
    return home
