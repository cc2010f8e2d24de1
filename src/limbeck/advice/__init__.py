"""What the guides say of a job, before it runs and after: a pure function of its recipe and of a few counts.

`advise` is the function; `notes` holds what goes in (`Counts`) and comes out (`Advice`); `hyperparameters`, `data` and
`afterwards` are the rules, numbered as Limbeck's reference of Amazon Bedrock numbers them.
"""

from limbeck.advice.advise import advise
from limbeck.advice.notes import Advice, Counts, Outcome

__all__ = ["Advice", "Counts", "Outcome", "advise"]
