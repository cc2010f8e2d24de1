"""A teacher that answers from a function, one question at a time, and counts what it was asked: for tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence

from limbeck.records import Answer, GenerationSettings, Question

__all__ = ["ScriptedTeacher"]


class ScriptedTeacher:
    """Answers with what ``script`` says to the prompt's last turn; `asked` counts questions by prompt id."""

    def __init__(self, script: Callable[[str], str], id: str = "scripted") -> None:
        self.id = self.fingerprint = id
        self.asked: Counter[str] = Counter()
        self._script = script

    def stored_as(self, settings: GenerationSettings) -> str:
        """See `Teacher.stored_as`."""
        return self.fingerprint

    def answers(
        self,
        questions: Sequence[Question],
        settings: GenerationSettings,
        skip: Collection[int] = (),
        check: Callable[[], None] = lambda: None,
    ) -> Iterator[list[tuple[int, Answer]]]:
        """See `Teacher.answers`. Tokens are the answer's UTF-8 bytes."""
        for index, question in enumerate(questions):
            if index in skip:
                continue
            check()
            self.asked[question.prompt.id] += 1
            text = question.completion or self._script(question.prompt.messages[-1].text)
            tokens = tuple(text.encode())
            cut = question.completion is None and len(tokens) > settings.max_tokens
            kept = tokens[: settings.max_tokens] if cut else tokens
            yield [
                (
                    index,
                    Answer(
                        bytes(kept).decode(errors="ignore"),
                        kept,
                        "length" if cut else "stop",
                        len(question.prompt.messages[-1].text),
                    ),
                )
            ]
