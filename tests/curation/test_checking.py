"""Rules that cannot be what they say are refused before anybody is asked, all at once."""

import json
from typing import get_args

import pytest
from tests.factory import pairs
from typer.testing import CliRunner

import limbeck
from limbeck.cli.app import app
from limbeck.curation import check
from limbeck.curation.privacy import KINDS
from limbeck.errors import InvalidInput, InvalidRecipe
from limbeck.recipe import Curation, Recipe
from limbeck.recipe.curation import Private

AMISS = {
    "pattern": "(",
    "json_schema": "none.json",
    "languages": ["en", "xx"],
    "privacy": "mask",
    "phone_region": "XX",
    "labels": "given",
}


@pytest.fixture
def recipe(tmp_path):
    return {
        "kind": "distillation",
        "name": "student",
        "source": {"prompts": str(pairs(tmp_path / "prompts.jsonl", 120, labelled=False))},
        "teacher": {"model": "wise", "endpoint": "http://127.0.0.1:9/v1"},
        "student": {"model": "nobody"},
        "curation": AMISS,
    }


def test_every_fault_is_told_in_one_error():
    with pytest.raises(InvalidRecipe) as told:
        check(Curation.model_validate(AMISS), labels=0)
    wanted = [
        "curation.json_schema: none.json: ",
        'curation.pattern: "(" is no regular expression',
        "curation.labels: given; no row has a label",
        'curation.languages: found "xx"; expected prompt, or some of ace, af',
        'curation.phone_region: found "XX"; expected a region of ISO 3166',
    ]
    assert all(fault.startswith(start) for fault, start in zip(told.value.faults, wanted, strict=True))


@pytest.mark.parametrize(
    ("schema", "fault"),
    [
        ({"type": "nothing"}, "not a JSON schema"),
        ("[1]", "expected a JSON object"),
        ("{", "expected a file with a JSON"),
    ],
)
def test_a_schema_that_is_none_is_refused(tmp_path, schema, fault):
    if isinstance(schema, str):
        (tmp_path / "schema.json").write_text(schema)
        schema = tmp_path / "schema.json"
    with pytest.raises(InvalidRecipe, match=fault):
        check(Curation(json_schema=schema))


def test_rules_that_can_be_held_pass():
    check(
        Curation(
            pattern="a+", languages=("en", "prompt"), phone_region="DE", privacy="drop", labels="given", json_schema={}
        ),
        labels=1,
    )
    check(Curation(labels="given"))  # nobody has counted


def test_a_kind_that_nobody_looks_for_is_refused_by_the_recipe_itself(recipe):
    assert set(get_args(Private)) == KINDS
    with pytest.raises(InvalidRecipe, match=r'curation\.private\.0: found "emial"; expected .*, email,'):
        Recipe.build({**recipe, "curation": {"privacy": "mask", "private": ["emial"]}})


def test_a_job_an_estimate_and_validate_refuse_them_before_anybody_is_asked(recipe, tmp_path, tiny_folder):
    recipe["student"]["model"] = str(tiny_folder)
    with pytest.raises(InvalidRecipe, match=r"curation\.labels: given"):
        limbeck.distill(recipe, home=tmp_path / "home")
    assert not (tmp_path / "home" / "jobs").exists()
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    for command in (["distill", "--dry-run"], ["validate"]):
        run = CliRunner().invoke(app, [command[0], str(tmp_path / "recipe.yaml"), *command[1:]])
        assert run.exit_code != 0 and isinstance(run.exception, InvalidInput | SystemExit), run.output
        told = str(run.exception) + run.output
        assert "curation.pattern" in told and 'curation.phone_region: found "XX"' in told
        assert ("curation.labels" in told) is (command[0] == "distill")
