"""An example is followed to every model that learned from it, at first and at second hand."""

import json
import shutil

import pytest
from tests.views.conftest import register

from limbeck.errors import InvalidInput, Unknown
from limbeck.views.lineage import fates, heirs, lineage, matching
from limbeck.views.rows import job_folder, rows


@pytest.fixture
def models(home):
    """`student` came of the job; `pupil` was taught by it, `grandchild` made from that; `other` knows nothing of it."""
    register(home, "student", "first", "base", "scripted")
    for name, base, taught_by in (("pupil", "base", "student"), ("grandchild", "pupil", "x"), ("other", "base", "x")):
        register(home, name, f"of-{name}", base, taught_by)
    return home


def one(home, **wanted):
    return next(
        row for row in rows(job_folder("first", home)) if all(row[key] == value for key, value in wanted.items())
    )


def test_from_a_row_to_every_model(models):
    row = one(models, verdict="kept", split="train", prompt_unmasked=None)
    (fate,) = lineage(row["id"][:8], models)
    assert (fate.job, fate.use, fate.model, fate.heirs) == ("first", "trained", "student", ("pupil", "grandchild"))
    assert fate.row["line"] == row["line"]


def test_a_model_that_was_deleted_still_leads_to_those_that_learned_from_it(models):
    row = one(models, verdict="kept", split="train", prompt_unmasked=None)
    recipe = json.loads((models.jobs / "first" / "recipe.json").read_text())
    for job, changed in (("first", {"name": "student"}), ("of-pupil", {"name": "pupil"})):
        told = {**recipe, **changed, "teacher": {"model": "student"}} if job == "of-pupil" else {**recipe, **changed}
        (models.jobs / job / "5-evaluation").mkdir(parents=True)
        (models.jobs / job / "recipe.json").write_text(json.dumps(told))
        (models.models / f"{changed['name']}.json").unlink()
    (fate,) = lineage(row["id"], models)
    assert (fate.model, fate.heirs) == (None, ())  # neither job has come to its end
    for job in ("first", "of-pupil"):
        (models.jobs / job / "5-evaluation" / "manifest.json").write_text("{}")
    (fate,) = lineage(row["id"], models)
    assert (fate.model, fate.heirs) == ("student (deleted)", ("pupil (deleted)", "grandchild"))


def test_the_models_that_learned_from_what_a_job_made_are_its_heirs(models):
    assert heirs(models.jobs / "first", models) == ("pupil", "grandchild")
    assert heirs(models.jobs / "of-other", models) == ()


@pytest.mark.parametrize(("wanted", "use"), [({"verdict": "refusal"}, "dropped"), ({"split": "held-out"}, "examined")])
def test_what_was_dropped_or_examined_taught_nobody(models, wanted, use):
    (fate,) = lineage(one(models, **wanted)["id"], models)
    assert (fate.use, fate.model, fate.heirs) == (use, None, ())


def test_a_masked_example_is_found_by_the_id_it_had(models):
    masked = one(models, detail="masked: email")
    for name in (masked["id"], masked["prompt_unmasked"], masked["prompt_unmasked"][:8].upper()):
        (fate,) = lineage(name, models)
        assert fate.row["id"] == masked["id"] and fate.row["prompt_origin"] == "given"


def test_what_the_teacher_wrote_from_a_masked_prompt_is_found_by_either_of_its_ids(models):
    path = models.jobs / "first" / "3-curation" / "kept.jsonl"
    kept = [json.loads(line) for line in path.read_text().splitlines()]
    seed = next(row for row in kept if row["detail"] == "masked: email")
    made = {"id": "c" * 64, "prompt_origin": "augmented", "prompt_parent": seed["prompt_unmasked"]}
    child = {**seed, **made, "prompt_unmasked": "d" * 64}
    path.write_text("".join(json.dumps(row) + "\n" for row in [*kept, child]))
    for name in (seed["id"], seed["prompt_unmasked"]):
        assert {fate.row["id"] for fate in lineage(name, models)} == {seed["id"], "c" * 64}
        assert {fate.row["id"] for fate in fates(matching(name[:8]), models)} == {seed["id"], "c" * 64}
    (fate,) = lineage("d" * 64, models)
    assert fate.row["id"] == "c" * 64 and fate.use == "trained"


def test_every_job_that_has_it_is_listed(models):
    shutil.copytree(models.jobs / "first", models.jobs / "again")
    row = one(models, verdict="kept", split="train")
    assert [(fate.job, fate.model) for fate in lineage(row["id"], models)] == [("again", None), ("first", "student")]


def test_forget_finds_rows_by_their_metadata(models):
    path = models.jobs / "first" / "3-curation" / "kept.jsonl"
    kept = [json.loads(line) for line in path.read_text().splitlines()]
    kept[0]["metadata"], kept[0]["others"] = {"user": "ada=1"}, [{"user": "bob"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in kept))
    (fate,) = fates(matching("user=ada=1"), models)
    assert fate.row["id"] == kept[0]["id"]
    # The same prompt came from another, too, and was folded into it.
    assert [fate.row["id"] for fate in fates(matching("user=bob"), models)] == [kept[0]["id"]]
    assert not list(fates(matching("user=eve"), models))


def test_forget_finds_a_sender_whose_address_is_masked_in_the_rows(models):
    path = models.jobs / "first" / "1-intake" / "examples.jsonl"
    given = [{**json.loads(line), "metadata": {"user": "ada@example.org"}} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in given))
    found = list(fates(matching("user=ada@example.org"), models))
    assert len(found) == len(given)
    assert all(fate.row["metadata"] != {"user": "ada@example.org"} for fate in found)


def test_what_is_no_id_or_nobodys_is_told(models):
    with pytest.raises(InvalidInput, match="at least its first 8 digits"):
        lineage("kettle", models)
    with pytest.raises(Unknown, match="has an example"):
        lineage("0123456789abcdef", models)
