"""What the teacher sees of an example, where that is more than the student will: the long prompt.

| part           | comes from                                         | where it stands                              |
|----------------|----------------------------------------------------|----------------------------------------------|
| instructions   | `synthesis.teacher_system`                         | the system prompt, in place of the row's own |
| golden pairs   | `source.golden`, chosen by `golden`                | turns before the prompt                      |
| droppable part | a row's `context`, or what `source.droppable` marks | in the prompt itself (`Example.whole`)       |

The student learns the answer to `Example.prompt` alone: context distillation (Askell et al. 2021, arXiv:2112.00861;
Snell et al. 2022, arXiv:2209.15189). The teacher's distributions are those with which it spoke, or reads, under the
long prompt; they belong to the answer's tokens, and those are the same for both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from limbeck.records import Example, Message, Prompt, Question
from limbeck.synthesis.golden import Golden

__all__ = ["Framing", "Sees"]

Sees = Literal["prompt", "context"]
"""Whether a teacher is shown what the student is, or the whole."""


class Framing:
    """Turns examples into the questions a teacher is asked. Without arguments: the prompt as it stands."""

    def __init__(self, golden: Golden | None = None, system: str | None = None) -> None:
        self.golden = golden or Golden()
        self.system = system

    def question(self, example: Example, completion: str | None = None) -> Question:
        """What is asked about ``example``; with ``completion`` the teacher reads that instead of answering."""
        prompt = example.whole or example.prompt
        if self.system is not None:
            prompt = Prompt((Message("system", self.system), *prompt.turns))
        shown = self.golden.shown_before(example.prompt.messages[-1].text)
        return Question(prompt, shown, completion, example.place)

    def examined(self, examples: Sequence[Example], sees: Sees | None) -> Callable[[Example], Question]:
        """How the teacher is asked on held-out rows.

        Where nobody says, with its context if it has one: so it is called in production. Golden pairs alone are
        no such context: they are there for synthesis.
        """
        if sees is None:
            has_context = self.system is not None or any(example.whole is not None for example in examples)
            sees = "context" if has_context else "prompt"
        return self.question if sees == "context" else lambda example: Question(example.prompt, place=example.place)

    def is_golden(self, example: Example) -> bool:
        """Whether ``example`` is one of the golden pairs: its answer is what the user wants, whatever the policy."""
        return (example.prompt.messages[-1].text, example.label) in self.golden.pairs

    @property
    def told(self) -> dict[str, Any]:
        """All that the questions depend on besides the examples, as JSON values."""
        return {"system": self.system, **self.golden.told}
