"""A catalog id behind an address stands for that address, wherever a recipe names who answers."""

import pytest
from tests.homes import ENTRY

from limbeck.errors import InvalidInput, InvalidRecipe, UnknownModel
from limbeck.models.catalog import catalog, find
from limbeck.recipe import Recipe
from limbeck.teachers.known import addressed

WISE = "far.wise-v1:0"


@pytest.fixture
def known(settings):
    """The home's catalog gets a source."""

    def write(source):
        settings.home.mkdir(exist_ok=True)
        (settings.home / "catalog.yaml").write_text(ENTRY.format(id=WISE, name="wise", path=source))
        return settings

    return write


def recipe(**more):
    values = {"kind": "distillation", "name": "afar", "source": {"prompts": "rows.jsonl"}}
    return Recipe.build(values | {"teacher": {"model": WISE}, "student": {"model": "small"}} | more)


SERVICE = "{model: big, endpoint: 'http://127.0.0.1:1/v1', key: THEIRS, concurrency: 3, budget: {usd: 4}}"


def test_all_that_the_catalog_says_is_the_recipes(known):
    found = addressed(recipe(), known(SERVICE)).teacher
    assert (found.model, found.via, found.endpoint, found.key) == ("big", "openai", "http://127.0.0.1:1/v1", "THEIRS")
    assert (found.concurrency, found.budget.usd) == (3, 4.0)
    assert (found.prices.input, found.prices.output) == (0.001, 0.002)


def test_prices_of_the_recipe_go_before_those_of_the_source_and_those_before_the_entrys(known):
    own = {"model": WISE, "prices": {"input": 7, "output": 8}}
    assert addressed(recipe(teacher=own), known(SERVICE)).teacher.prices.input == 7
    priced = SERVICE.replace("key:", "prices: {input: 5, output: 6}, key:")
    assert addressed(recipe(), known(priced)).teacher.prices.input == 5


def test_judges_writers_and_those_that_are_tried_are_found_too(known):
    trial = {"teachers": [WISE, "other"], "judge": {"model": WISE}}
    augment = {"to": 300, "writer": {"model": WISE}}
    judge = {"model": {"model": WISE}, "rubric": "correctness"}
    asked = recipe(teacher=None, trial=trial, synthesis={"augment": augment}, curation={"judge": judge})
    found = addressed(asked, known(SERVICE))
    named = [*found.trial.teachers, found.trial.judge, found.synthesis.augment.writer, found.curation.judge.model]
    assert [one.model for one in named] == ["big", "other", "big", "big", "big"]


@pytest.mark.parametrize("teacher", [{"model": "other"}, {"model": WISE, "via": "bedrock", "region": "us-east-1"}])
def test_a_recipe_that_names_none_of_them_or_says_itself_where_stays_as_it_is(known, teacher):
    asked = recipe(teacher=teacher)
    assert addressed(asked, known(SERVICE)) is asked


def test_a_student_cannot_be_cut_from_weights_elsewhere(known):
    with pytest.raises(InvalidRecipe, match=r"student\.model: missing; a teacher over the network"):
        addressed(recipe(student={}), known(SERVICE))


def test_it_is_no_model_to_load_or_to_cut(known):
    with pytest.raises(UnknownModel, match=r"answers at http://127\.0\.0\.1:1/v1: it can teach.* weights are not here"):
        find(WISE, known(SERVICE))
    settings = known(SERVICE)
    with (settings.home / "catalog.yaml").open("a") as file:
        file.write(ENTRY.format(id="far.cut-v1:0", name="cut", path=f"{{of: '{WISE}', layers: [0]}}"))
    with pytest.raises(UnknownModel, match=f"cut from {WISE}, which is no whole model"):
        find("far.cut-v1:0", settings)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("{model: big, via: transformers}", "via: found transformers; expected openai, anthropic, bedrock"),
        ("{model: big, endpoint: 'ftp://nowhere'}", "expected http://HOST:PORT/PATH"),
        ("{model: big, via: bedrock, key: 'sk-not a name'}", "expected the name of an environment variable"),
    ],
)
def test_a_source_that_cannot_be_asked_is_refused_with_the_catalog(known, source, told):
    with pytest.raises(InvalidInput) as refused:
        catalog(known(source))
    assert told in str(refused.value)
    assert "sk-not" not in str(refused.value)
