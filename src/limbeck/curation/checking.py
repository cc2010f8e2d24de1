"""Whether a recipe's rules can be what they say, asked before anybody is paid: a rule that cannot is told at once.

What can be seen in the recipe alone is seen there (`recipe.curation`); here is what needs the file of a schema, the
tools that know patterns, languages and phone numbers, or the number of labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from phonenumbers import SUPPORTED_REGIONS

from limbeck.curation import format
from limbeck.curation.rules import read_schema
from limbeck.curation.text import Rule, known_languages
from limbeck.errors import InvalidInput, InvalidRecipe
from limbeck.recipe import Curation

__all__ = ["check"]


def check(plan: Curation, labels: int | None = None) -> None:
    """Raise one `InvalidRecipe` with every fault of ``plan``; ``labels`` is how many rows have one, if known."""
    faults = list(_faults(plan, labels))
    if faults:
        raise InvalidRecipe("recipe", faults)


def _faults(plan: Curation, labels: int | None) -> Iterator[str]:
    if plan.json_schema is not None:
        yield from _told(lambda found: format.schema_check(read_schema(found)), plan.json_schema)
    if plan.pattern is not None:
        yield from _told(format.matching, plan.pattern)
    if plan.labels == "given" and labels == 0:
        yield "curation.labels: given; no row has a label to take them from; list them: curation.labels: [a, b]"
    unknown = [code for code in plan.languages if code != "prompt" and code not in known_languages()]
    if unknown:
        known = ", ".join(sorted(known_languages()))
        yield f'curation.languages: found "{", ".join(unknown)}"; expected prompt, or some of {known}'
    if plan.phone_region is not None and plan.phone_region not in SUPPORTED_REGIONS:
        yield f'curation.phone_region: found "{plan.phone_region}"; expected a region of ISO 3166, for example DE or US'


def _told(make: Callable[[Any], Rule], wanted: Any) -> Iterator[str]:
    try:
        make(wanted)
    except InvalidInput as error:
        yield str(error)
