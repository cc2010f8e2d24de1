"""Stage 3: every answered example gets a verdict; what is not trained on is marked with its rule and kept in view.

`sift` is the stage itself, `sieve` its rules in their order. Rules on one answer are in `text` and `format`, `rules`
says which a recipe asks for, `checking` whether they can be what they say; rules on all answers are in `duplicates` and
`balance`. `privacy` finds what is private, `masking` covers it. `votes` holds several answers against each other, and
`judge` has them marked, both through what the pipeline hands in (`asking`).
"""

from limbeck.curation.asking import Asking
from limbeck.curation.checking import check
from limbeck.curation.masking import cover, cover_reason
from limbeck.curation.rules import answer_rules
from limbeck.curation.sieve import judge
from limbeck.curation.sift import remarks, sift

__all__ = ["Asking", "answer_rules", "check", "cover", "cover_reason", "judge", "remarks", "sift"]
