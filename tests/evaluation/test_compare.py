"""The stage: what it leaves in its folder for people to read."""

import json

from tests.curation.made import example

from limbeck.curation import cover
from limbeck.evaluation.candidates import Candidate
from limbeck.evaluation.compare import compare
from limbeck.recipe import Curation, Evaluation
from limbeck.records import GenerationSettings, Question
from limbeck.storage.workspace import Workspace


def test_a_model_is_asked_with_the_true_prompt_and_what_is_left_shows_it_masked(tmp_path, tiny):
    asked = []

    def ask(one):
        asked.append(one.prompt.messages[-1].text)
        return Question(one.prompt)

    rows = [example(f"write to ada@example.org, number {i}", "held-out", label="ada@example.org") for i in range(3)]
    plan, shown = Evaluation(latency_requests=2, baseline=False), cover(Curation(privacy="mask"))
    work, store = Workspace(tmp_path / "job"), tmp_path / "answers.sqlite"
    candidates = [Candidate("student after", tiny, ask)]
    compare(candidates, rows, [], plan, GenerationSettings(3), store, work, {}, (), list, shown)
    left = [json.loads(line) for line in (work.folder / "5-evaluation/answers.jsonl").read_text().splitlines()]
    assert all("ada@example.org" in text for text in asked)
    assert [row["prompt"] for row in left] == [f"write to [EMAIL-1], number {i}" for i in range(3)]
    assert [(row["id"], row["reference"]) for row in left] == [(one.id, "[EMAIL-1]") for one in rows]
