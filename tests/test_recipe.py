"""A recipe: every fault at once, each with its place and the way out."""

import json

import pytest

from limbeck.errors import InvalidRecipe
from limbeck.recipe import Recipe, assign

GOOD = """
kind: distillation
name: desk
source: {prompts: data/prompts.jsonl}
teacher: {model: ../teacher}
student: {shrink: {layers: 6}}
training: {learning_rate: 1e-3}
"""
WHOLE = GOOD.replace("{shrink: {layers: 6}}", "{model: m}")


@pytest.fixture
def write(tmp_path):
    def _write(text):
        path = tmp_path / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return _write


def faults(text, write):
    with pytest.raises(InvalidRecipe) as refused:
        Recipe.read(write(text))
    return [fault for fault in refused.value.faults]


def test_paths_start_from_the_recipes_folder(write, tmp_path):
    recipe = Recipe.read(write(GOOD))
    assert recipe.source.prompts == (tmp_path / "data" / "prompts.jsonl").resolve()
    assert recipe.teacher.model == str((tmp_path.parent / "teacher").resolve())
    assert recipe.training.learning_rate == 0.001


def test_a_models_path_starts_from_the_recipes_folder_wherever_it_is_named(write, tmp_path):
    trial = "trial: {teachers: [./one, {model: ./two, endpoint: http://h/v1, tokenizer: ./three}, four]}"
    first, second, third = Recipe.read(write(WHOLE.replace("teacher: {model: ../teacher}", trial))).trial.teachers
    assert (first.model, third.model) == (str(tmp_path / "one"), "four")
    assert (second.model, second.tokenizer) == (str(tmp_path / "two"), str(tmp_path / "three"))


def test_what_changes_no_answer_may_change_while_a_job_lasts(write):
    asked = WHOLE.replace("{model: ../teacher}", "{model: gpt, endpoint: http://h/v1%s}")
    first, second = (Recipe.read(write(asked % more)) for more in ("", ", answers_as: gpt-2026, key: KEY, attempts: 2"))
    assert first.lasting() == second.lasting()


def test_flags_win_over_the_file(write):
    recipe = Recipe.read(write(GOOD), {"training.epochs": 7, "student.shrink.layers": [0, 29]})
    assert recipe.training.epochs == 7
    assert recipe.student.shrink.layers == (0, 29)


def test_every_fault_is_told_at_once_with_a_way_out(write):
    told = faults(
        GOOD.replace("name: desk", "nam: desk").replace("learning_rate: 1e-3", "epoch: 2, batch_size: 0"), write
    )
    assert 'training.epoch: unknown key; did you mean "epochs"?' in told
    assert 'nam: unknown key; did you mean "name"?' in told
    assert "name: missing" in told
    assert any(fault.startswith('training.batch_size: found "0"; expected 1 or more') for fault in told)


def test_what_sections_have_against_each_other_is_told_with_what_is_wrong_in_them(write):
    told = faults(
        "kind: distillation\nnam: desk\nsource: {prompts: p, validation_share: 0}\nstudent: {adapter: {}}\n"
        "training: {patience: 3, keep: best, freeze_embeddings: false}\ncuration: {phone_region: DE}\n",
        write,
    )
    assert [fault.partition(": ")[0] for fault in told] == [
        "name",
        "curation",
        "nam",
        "teacher",
        "training.freeze_embeddings",
        "training.patience",
        "training.keep",
    ]
    told = faults(
        GOOD.replace("teacher: {model: ../teacher}", "training_: {}").replace("kind: distillation", ""), write
    )
    assert "kind: missing" in told and not any(fault.startswith("teacher") for fault in told)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "found nothing at the top; expected keys such as kind and name"),
        ("- a", "found a list at the top"),
        ("kind: [", "expected the node content"),
        (GOOD + "kind: distillation", 'the key "kind" is said twice'),
        (GOOD.replace("name: desk", "name: {{desk}}"), "column 8: a key that is no word"),
        (GOOD.replace("1e-3", "1e-3, seed: -1"), 'training.seed: found "-1"; expected 0 or more'),
        (
            GOOD.replace("../teacher", "m, endpoint: http://h/v1, options: {since: 2026-01-01}"),
            "teacher.options: Object of type date is not JSON serializable; expected what JSON has, text in quotes",
        ),
        (GOOD.replace("teacher: {model: ../teacher}", ""), "teacher: missing; a distillation needs one"),
        (GOOD.replace("distillation", "fine-tuning"), "teacher: fine-tuning learns from labels and has none"),
        (
            GOOD.replace("name: desk", "name: a b"),
            'name: found "a b"; expected letters and digits, with a single - or _ after any, 63 characters at most',
        ),
        (GOOD.replace("name: desk", f"name: {'a-' * 32}b"), 'a-a-b"; expected letters and digits'),
        (
            GOOD + "curation: {private: [email]}",
            "curation: private: nothing private is looked for; expected privacy: mask",
        ),
        (GOOD + "curation: {phone_region: DE}", "curation: phone_region: nothing private is looked for"),
        (
            GOOD.replace("../teacher", "m, options: {top_k: 1}"),
            "options: of no use with via: transformers; expected via",
        ),
        (
            GOOD.replace("../teacher", "m, tokenizer: other, via: llama.cpp"),
            "teacher: tokenizer: of no use with via: llama.cpp; expected via: openai",
        ),
        (GOOD + "evaluation: {colour: red}", "evaluation.colour: unknown key; expected one of metric, tolerance"),
        (GOOD.replace("{learning_rate: 1e-3}", "{objective: {forward_kl: 0}}"), "every weight is 0"),
        (
            GOOD.replace("{learning_rate: 1e-3}", "{objective: {cross_entropy: 1, temperature: 2}}"),
            "training.objective: temperature: 2 would change nothing; expected a weight of forward_kl",
        ),
        (
            GOOD.replace("{learning_rate: 1e-3}", "{objective: {forward_kl: 1, beta: 0.2}}"),
            "beta: 0.2 would change nothing; expected a weight of jensen_shannon beside it",
        ),
        (
            GOOD.replace("{learning_rate: 1e-3}", "{objective: {jensen_shannon: 1, beta: 1}}"),
            'training.objective.beta: found "1"; expected less than 1',
        ),
        (
            GOOD.replace("{learning_rate: 1e-3}", "{objective: {cross_entropy: 1, on_policy: {share: 0.5}}}"),
            "on_policy: a text of the student's own teaches it nothing but how the teacher would have gone on",
        ),
    ],
)
def test_a_fault_says_what_was_found_and_expected(text, fault, write):
    assert any(fault in told for told in faults(text, write))


@pytest.mark.parametrize(
    ("kind", "section", "fault"),
    [
        (
            "continued-pre-training",
            {"curation": {"privacy": "mask"}},
            "curation: continued pre-training reads all text as",
        ),
        (
            "fine-tuning",
            {"synthesis": {"labels": "improve"}},
            "synthesis.labels: fine-tuning has no teacher that could",
        ),
        (
            "fine-tuning",
            {"synthesis": {"refine": {"instruction": "Be brief."}}},
            "synthesis.refine: fine-tuning has no",
        ),
        ("fine-tuning", {"synthesis": {"teacher_system": "Be brief."}}, "synthesis.teacher_system: fine-tuning has no"),
        (
            "fine-tuning",
            {"training": {"objective": {"cross_entropy": 1, "hidden": {}}}},
            "training.objective.hidden: fine-tuning has no teacher's hidden states",
        ),
        (
            "continued-pre-training",
            {"training": {"objective": {"cross_entropy": 1, "hidden": {}}}},
            "training.objective.hidden: continued pre-training has no teacher's hidden states",
        ),
        (
            "fine-tuning",
            {"synthesis": {"draws": 8, "top_k": 8}, "evaluation": {"tolerance": 0.1}},
            "synthesis.top_k, synthesis.draws, evaluation.tolerance: would change nothing in a job of kind fine-tuning",
        ),
        (
            "continued-pre-training",
            {"source": {"prompts": "p", "system": "Be brief."}, "evaluation": {"metric": "token_f1"}},
            "source.system, evaluation.metric: would change nothing in a job of kind continued-pre-training",
        ),
        (
            "fine-tuning",
            {"source": {"prompts": "p", "validation_share": 0}, "training": {"validate_every": 5}},
            "training.validate_every: nothing is validated",
        ),
    ],
)
def test_what_a_kind_would_not_do_is_refused_and_not_left_out_quietly(kind, section, fault):
    values = {"kind": kind, "name": "t", "source": {"prompts": "p"}, "student": {"model": "m"}}
    assert Recipe.build(values).kind == kind
    assert Recipe.build(Recipe.build(values).dump()).kind == kind
    with pytest.raises(InvalidRecipe, match=fault):
        Recipe.build(values | section)


def test_a_missing_or_unreadable_file_is_named(tmp_path):
    with pytest.raises(InvalidRecipe, match=r"none\.yaml: cannot be read: No such file"):
        Recipe.read(tmp_path / "none.yaml")
    with pytest.raises(InvalidRecipe, match=r"rows\.jsonl: a file of rows; expected a recipe in YAML that names it"):
        Recipe.read(tmp_path / "rows.jsonl")
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9")
    with pytest.raises(InvalidRecipe, match="byte 9 is not UTF-8"):
        Recipe.read(tmp_path / "latin.yaml")


def test_what_is_left_out_is_derived_from_the_kind(write):
    recipe = Recipe.read(write(GOOD))
    assert (recipe.minimum_rows, recipe.objective.forward_kl, recipe.objective.cross_entropy) == (100, 1.0, 0.0)
    tuned = Recipe.build({"kind": "fine-tuning", "name": "t", "source": {"prompts": "p"}, "student": {"model": "m"}})
    assert (tuned.minimum_rows, tuned.objective.forward_kl, tuned.objective.cross_entropy) == (8, 0.0, 1.0)


def test_a_dumped_recipe_reads_back_the_same(write):
    recipe = Recipe.read(write(GOOD))
    assert Recipe.build(json.loads(json.dumps(recipe.dump()))) == recipe


def test_draws_are_for_what_is_linear_in_the_teacher(write):
    assert Recipe.read(write(GOOD + "synthesis: {draws: 50}")).asking.draws_captured == 50
    told = faults(
        GOOD.replace("{learning_rate: 1e-3}", "{objective: {reverse_kl: 1}}") + "synthesis: {draws: 50}", write
    )
    assert any("draws: training.objective.reverse_kl cannot be told from tokens drawn" in fault for fault in told)
    text = GOOD.replace("{learning_rate: 1e-3}", "{objective: {cross_entropy: 1}}") + "synthesis: {draws: 50}"
    assert any("draws: would change nothing, since no distribution is learned from" in f for f in faults(text, write))


@pytest.mark.parametrize("via", ["llama.cpp", "anthropic"])
def test_draws_are_refused_of_a_teacher_that_tells_its_likeliest_tokens_alone(write, via):
    recipe = GOOD.replace("{model: ../teacher}", f"{{model: t, via: {via}}}").replace("{shrink", "{model: s, shrink")
    told = faults(recipe + "synthesis: {draws: 50}", write)
    assert any("draws: only a teacher in this process" in fault for fault in told)


def test_auto_is_a_word_and_reads_back_the_same(write):
    recipe = Recipe.read(write(GOOD.replace("{learning_rate: 1e-3}", "{objective: auto}")))
    assert recipe.training.objective.auto and recipe.objective.forward_kl == 1.0
    assert Recipe.build(json.loads(json.dumps(recipe.dump()))) == recipe
    with pytest.raises(InvalidRecipe, match="auto: chooses for itself"):
        Recipe.build({**recipe.dump(), "training": {"objective": {"auto": True, "forward_kl": 1}}})


@pytest.mark.parametrize(("via", "captured"), [("anthropic", 0), ("bedrock", 0), ("transformers", 32)])
def test_auto_asks_for_no_distributions_where_none_are_ever_told(via, captured):
    values = {"kind": "distillation", "name": "n", "source": {"prompts": "p"}, "training": {"objective": "auto"}}
    recipe = Recipe.build({**values, "teacher": {"model": "t", "via": via}, "student": {"model": "s"}})
    assert recipe.asking.top_k_captured == captured


def test_a_dotted_key_through_a_value_is_refused():
    with pytest.raises(InvalidRecipe, match="name is text; expected a section"):
        assign({"name": "a"}, "name.first", 1)


def test_all_kinds_are_read():
    values = {"kind": "continued-pre-training", "name": "c", "source": {"prompts": "p"}, "student": {"model": "m"}}
    assert Recipe.build(values).kind == "continued-pre-training"


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"student": {"shrink": {"layers": 0}}}, 'student.shrink.layers: found "0"; expected 1 or more'),
        (
            {"student": {"shrink": {"layers": "all"}}},
            'student.shrink.layers: found "all"; expected a whole number',
        ),
        ({"source": {"prompts": "p.jsonl", "held_out": ["a"]}}, "source.held_out: found a list; expected a path"),
        ({"training": []}, "training: found an empty list; expected keys"),
        ({"export": {"gguf": "f8"}}, 'export.gguf: found "f8"; expected f32, f16, q8_0, q4_1 or q4_0, or none'),
        ({"source": {"prompts": []}}, "source.prompts: found an empty list; expected a list of 1 or more"),
        (
            {"teacher": {"model": "t", "budget": {"tokens": 5}}},
            "teacher: budget: with via: transformers it is asked on this machine, where no cap is kept",
        ),
        ({"teacher": {"model": ""}}, 'teacher.model: found ""; expected text'),
        ({"training": {"epochs": 1.5}}, 'training.epochs: found "1.5"; expected a whole number'),
        ({"training": {"learning_rate": -1}}, 'training.learning_rate: found "-1"; expected more than 0'),
        ({"synthesis": {"seed": 2**32}}, 'synthesis.seed: found "4294967296"; expected less than 4294967296'),
        ({"curation": {"languages": ["english"]}}, 'languages.0: found "english"; expected a code of ISO 639 such as'),
        ({"curation": {"judge": {"threshold": "x"}}}, 'curation.judge.threshold: found "x"; expected a number'),
    ],
)
def test_a_fault_is_told_at_its_place_in_words_of_a_recipe(values, told):
    with pytest.raises(InvalidRecipe) as refused:
        Recipe.build(
            {"kind": "distillation", "name": "a", "source": {"prompts": "p"}, "teacher": {"model": "t"}, **values}
        )
    assert told in str(refused.value)
    assert not any(
        word in str(refused.value) for word in ("constrained", "tuple", "pathlib", "instance", "literal", "should")
    )
