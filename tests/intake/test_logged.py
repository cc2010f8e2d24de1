"""A job's rows from invocation logs: brought once, with all that is known of them; and the CLI that looks first."""

import csv
import gzip
import json

import pytest
from tests.intake.test_logs import asking, record

from limbeck.errors import InvalidDataset, InvalidInput, InvalidRecipe
from limbeck.intake import bring_logs, check, collect, read_counts
from limbeck.progress import Silent, StopSignal
from limbeck.recipe import Recipe
from limbeck.storage.workspace import Workspace


@pytest.fixture
def log(tmp_path):
    folder = tmp_path / "AWSLogs" / "0" / "BedrockModelInvocationLogs" / "us-east-1" / "2026" / "01" / "02" / "03"

    def write(records, name="a.json.gz"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(gzip.compress("".join(json.dumps(one) + "\n" for one in records).encode()))

    write.uri = str(tmp_path / "AWSLogs")
    return write


def recipe(log, kind="distillation", minimum=1, **logs):
    who = {"teacher": {"model": "m"}} if kind == "distillation" else {"student": {"model": "s"}}
    source = {"logs": {"uri": log.uri, **logs}, "minimum": minimum}
    return Recipe.build({"kind": kind, "name": "job", "source": source, **who})


def gathered(asked, work):
    whole = bring_logs(asked, work.folder / "source", None, Silent(), StopSignal())
    check(whole)
    return collect(whole, work)


def answering(text):
    return {"output": {"message": {"role": "assistant", "content": [{"text": text}]}}}


def test_another_answer_to_the_same_prompt_is_told_and_counted(log, tmp_path):
    log([record(request=asking("a"), response=answering(text)) for text in ("yes", "no", "yes")] + [record()] * 2)
    work, asked = Workspace(tmp_path / "job"), recipe(log, use_responses=True)
    assert [(one.label, one.copies) for one in gathered(asked, work)] == [("yes", 3), ("hi", 2)]
    with (work.folder / "1-intake" / "report.csv").open() as file:
        reasons = [row["reason"] for row in csv.DictReader(file)]
    assert [", with another answer among its copies" in reason for reason in reasons] == [True, False]
    assert read_counts(work.folder / "1-intake").contradictions == 1
    (census,) = check(bring_logs(asked, work.folder / "source", None, Silent(), StopSignal()))
    assert "line 1: its copies were answered differently" in census.contradictions[0]


def test_a_record_keeps_its_place_its_metadata_and_its_copies(log, tmp_path):
    log([record(request=asking("a"), metadata={"tenant": tenant}) for tenant in ("x", "y", "x", "z")])
    log([record(request=asking("b"))], "b.json.gz")
    work = Workspace(tmp_path / "job")
    first, second = gathered(recipe(log), work)
    where = "0/BedrockModelInvocationLogs/us-east-1/2026/01/02/03"
    assert (first.origin, first.file, first.line, first.copies) == ("log", f"{where}/a.json.gz", 1, 4)
    assert (dict(first.metadata), first.others) == ({"tenant": "x"}, ({"tenant": "y"}, {"tenant": "z"}))
    assert (second.file, second.line, second.metadata, second.label) == (f"{where}/b.json.gz", 1, {}, None)
    with (work.folder / "1-intake" / "report.csv").open() as file:
        assert [(row["file"], row["line"], row["status"]) for row in csv.DictReader(file)] == [
            (f"{where}/a.json.gz", "1", "accepted"),
            (f"{where}/b.json.gz", "1", "accepted"),
        ]


def test_a_log_that_grows_changes_no_job_that_has_begun(log, tmp_path):
    log([record(request=asking("a"))])
    work = Workspace(tmp_path / "job")
    before = gathered(recipe(log), work)
    log([record(request=asking("b"))], "b.json.gz")
    assert gathered(recipe(log), work) == before
    assert len(gathered(recipe(log), Workspace(tmp_path / "another"))) == 2
    assert len(gathered(recipe(log, filter={"notEquals": {"a": "b"}}), work)) == 2  # another question is asked anew


def test_responses_are_learned_of_the_teacher_or_of_the_model_that_is_named(log, tmp_path):
    log([record(model=model, request=asking(model), response=answering(f"{model} said")) for model in ("m", "other")])
    taken = recipe(log, use_responses=True)
    assert taken.synthesis.use_responses and taken.objective.cross_entropy
    (one,) = gathered(taken, Workspace(tmp_path / "one"))
    assert (one.label, one.origin) == ("m said", "log")
    tuned = recipe(log, "fine-tuning", use_responses=True, model="other")
    (two,) = gathered(tuned, Workspace(tmp_path / "two"))
    assert two.label == "other said"


def test_too_few_are_told_with_their_number_and_a_sample_holds_to_the_most(log, tmp_path):
    log([record(request=asking(f"prompt {at}")) for at in range(40)])
    with pytest.raises(InvalidDataset, match=r"logs.jsonl: 40 valid prompts of 40 rows; expected at least 100"):
        gathered(recipe(log, minimum=100), Workspace(tmp_path / "few"))
    assert len(gathered(recipe(log, sample=10), Workspace(tmp_path / "sampled"))) == 10


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"filter": {"equals": {"a": "b", "c": "d"}}}, "source.logs.filter: equals: found 2 pairs"),
        ({"sample": 0}, "source.logs.sample"),
        ({"url": "x"}, 'unknown key; did you mean "uri"'),
    ],
)
def test_a_recipe_says_what_is_wrong_with_its_logs(log, changed, said):
    with pytest.raises(InvalidRecipe, match=said):
        recipe(log, **changed)


def test_fine_tuning_learns_from_no_prompt_alone(log):
    with pytest.raises(InvalidRecipe, match=r"source\.logs\.use_responses: false; fine-tuning learns from labels"):
        recipe(log, "fine-tuning")


def test_a_source_is_files_or_logs(tmp_path):
    with pytest.raises(InvalidRecipe, match="prompts: missing; expected a file of JSONL, or logs"):
        Recipe.build({"kind": "distillation", "name": "job", "source": {}, "teacher": {"model": "m"}})


def test_a_place_that_is_not_there_is_told(tmp_path):
    asked = Recipe.build(
        {
            "kind": "distillation",
            "name": "j",
            "source": {"logs": {"uri": str(tmp_path / "no")}},
            "teacher": {"model": "m"},
        }
    )
    with pytest.raises(InvalidInput, match="no such folder; expected one that holds AWSLogs"):
        gathered(asked, Workspace(tmp_path / "job"))
