"""The teacher mends texts: labels that are to be improved, and answers of its own that are to be cleaned.

Each text is asked for anew (`instructions` has the words), then the teacher reads the new one under the question that
stands before the answer for good, so the soft labels belong to the tokens that the student will see. A text stays as it
was, and says why, where the teacher wrote nothing, did not come to an end, or had nothing to correct; and where its own
answer was of that kind already, which is no more to be learned in other words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from limbeck.records import Answer, AnsweredExample, Origin, Question
from limbeck.synthesis.instructions import mending
from limbeck.synthesis.session import Session

__all__ = ["mend"]


def mend(
    answered: Sequence[AnsweredExample], origin: Origin, instruction: str, session: Session, name: str
) -> list[AnsweredExample]:
    """``answered``, those whose answer is of that ``origin`` with the teacher's new one; golden answers stay."""
    places = [
        at for at, one in enumerate(answered) if one.origin == origin and not session.framing.is_golden(one.example)
    ]
    chosen = [answered[at] for at in places]
    notes = [_unfit(one) for one in chosen]
    fit = [at for at, note in enumerate(notes) if not note]
    asked = [_question(chosen[at], instruction) for at in fit]
    written = dict(zip(fit, session.put(asked, name), strict=True))
    for at, new in written.items():
        notes[at] = _fault(new, chosen[at].answer.text)
    readable = [at for at, note in enumerate(notes) if not note]
    reading = [session.framing.question(chosen[at].example, written[at].text.strip()) for at in readable]
    read = dict(zip(readable, session.put(reading, f"{name}: reading"), strict=True))
    for at, new in read.items():
        # The words are the teacher's, but a text may be read in more tokens than it was written in.
        if len(new.token_ids) > session.settings.max_tokens:
            notes[at] = "too long"
    mended = list(answered)
    for at, (place, note) in enumerate(zip(places, notes, strict=True)):
        one = answered[place]
        if note:
            mended[place] = replace(one, note=f"not mended: {note}")
        else:
            parent = one.example.id if origin == "given" else session.key(one.example)
            mended[place] = replace(one, answer=read[at], origin="refined", before=one.answer.text, parent=parent)
    told = "".join(f", {count} {note}" for note, count in sorted(Counter(filter(None, notes)).items()))
    session.work.progress.say(f"{name}: {notes.count('')} of {len(notes)}{told}")
    return mended


def _question(one: AnsweredExample, instruction: str) -> Question:
    asked = mending(instruction, one.example.whole or one.example.prompt, one.answer.text)
    return Question(asked, place=one.example.place)


def _unfit(one: AnsweredExample) -> str:
    """Why an answer of the teacher's is left for curation to drop; empty if it can be mended, as any label can."""
    if one.origin != "teacher":
        return ""
    if one.answer.finish_reason != "stop":
        return "was cut off"
    return "" if one.answer.text.strip() else "was empty"


def _fault(new: Answer, old: str) -> str:
    """Why ``new`` does not take the place of ``old``; empty if it does."""
    if not new.text.strip():
        return "empty"
    if new.finish_reason != "stop":
        return "cut off"
    return "needs no correction" if new.text.strip() == old.strip() else ""
