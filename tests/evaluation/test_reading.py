"""What continued pre-training gained and forgot, in words and figures."""

import math

import numpy as np
import pytest

from limbeck.evaluation.general import Knowledge, knowledge_of
from limbeck.evaluation.reading import perplexity, verdict_on_reading
from limbeck.evaluation.table import shown, table
from limbeck.records import Report


def texts(mean, count=30, seed=0):
    """Nats and tokens of texts with about ``mean`` nats a token."""
    generator = np.random.default_rng(seed)
    tokens = generator.integers(20, 60, count)
    return list(tokens * (mean + 0.1 * generator.standard_normal(count))), tokens.tolist()


def test_perplexity_weighs_tokens_alike_and_its_interval_holds_it():
    nats, tokens = [10.0, 90.0], [10, 30]
    assert perplexity((nats, tokens), 0).value == pytest.approx(math.exp(100 / 40))
    found = perplexity(texts(2.0), 0)
    assert found.low < found.value < found.high and found.value == pytest.approx(math.exp(2.0), rel=0.1)


@pytest.mark.parametrize(
    ("gained", "forgot", "ship", "said"),
    [
        (-0.5, 0.02, True, "ship: held-out perplexity"),
        (0.0, 0.0, False, "no clear gain"),
        (-0.5, 0.3, False, "it forgets, general perplexity +35.0%"),
    ],
)
def test_it_ships_if_it_reads_better_and_forgets_little(gained, forgot, ship, said):
    nats, tokens = texts(3.0)
    own = {
        "student before": (nats, tokens),
        "student after": ([n + gained * t for n, t in zip(nats, tokens, strict=True)], tokens),
    }
    nats, tokens = texts(2.5, seed=1)
    after = [n + forgot * t for n, t in zip(nats, tokens, strict=True)]
    general = {"student before": Knowledge(nats, tokens, []), "student after": Knowledge(after, tokens, [])}
    found, verdict = verdict_on_reading(own, general, 0.1, 0)
    assert (found, said in verdict) == (ship, True), verdict
    few = {part: (nats[:5], tokens[:5]) for part, (nats, tokens) in own.items()}
    found, verdict = verdict_on_reading(few, general, 0.1, 0)
    assert not found and "5 held-out texts tell nothing from chance" in verdict


def test_general_knowledge_is_measured_on_every_text_and_question(tiny):
    found = knowledge_of(tiny, 2048)
    assert len(found.nats) == len(found.tokens) == 36 and len(found.right) == 48
    assert set(found.right) <= {0.0, 1.0}
    assert 0 < sum(found.nats) / sum(found.tokens) < 20
    assert found == knowledge_of(tiny, 2048)


def test_the_table_of_reading_has_columns_of_its_own():
    score = {"value": 12.3, "low": 11.0, "high": 14.0, "rows": 3}
    right = {"value": 0.5, "low": 0.4, "high": 0.6, "rows": 48}
    one = {"parameters": 2e6, "perplexity": score, "general_perplexity": score, "general_choices": right}
    told = table(Report({"student before": one}, 3, "", True, {"metric": "perplexity"}))
    assert told.splitlines()[0].split("  ")[0] == "model"
    assert "12.30 (11.00–14.00)" in told and "50.0% (40.0–60.0)" in told


def test_the_perplexity_of_a_ruined_model_fits_into_a_table():
    assert (shown(9999.0), shown(8.4e26)) == ("9999.00", "8.4e+26")


@pytest.mark.parametrize(
    ("nats", "shown"), [(1e5, "1.8e+308 after"), (300.0, "1.9e+130 after"), (math.nan, "nan after")]
)
def test_a_ruined_model_is_measured_and_not_shipped(nats, shown):
    before, after = ([3.0] * 8, [1] * 8), ([nats] * 8, [1] * 8)
    general = {"student before": Knowledge(*before, []), "student after": Knowledge(*after, [])}
    ship, verdict = verdict_on_reading({"student before": before, "student after": after}, general, 0.1, 0)
    assert not ship and shown in verdict and len(verdict) < 400
