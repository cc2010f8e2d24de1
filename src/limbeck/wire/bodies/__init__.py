"""The bodies InvokeModel takes: which form one is of, told apart by its members.

    converse  Converse's own conversations
    nova      the same, as Nova's native body
    llama     a prompt, as Llama's native body
    openai    chat completions and completions
    formats   how an answer is held to a format
    base      what a body is once it is understood

Every model takes Nova's and Llama's form. Imported models take three of their own.
"""

from __future__ import annotations

from limbeck.errors import InvalidInput
from limbeck.wire.bodies import llama, nova, openai
from limbeck.wire.bodies.base import JSON, Asked
from limbeck.wire.operations import Operation

__all__ = ["JSON", "Asked", "understand"]


def understand(body: JSON, model_id: str, imported: bool, converse: Operation) -> Asked:
    """The body in its form. Raises `InvalidInput` with every fault, or with the forms this model takes.

    ``converse`` is the operation Converse, whose shapes Nova's form has.
    """
    if imported:
        if "messages" in body and "inferenceConfig" not in body:
            return openai.ChatCompletion({"model": model_id, **body})
        if "prompt" in body:
            if "max_tokens" in body:
                return openai.TextCompletion({"model": model_id, **body})
            return llama.Llama(body, imported=True)
        forms = [llama.IMPORTED_FORM, openai.COMPLETION_FORM, openai.CHAT_FORM]
    else:
        if "messages" in body:
            return nova.Nova(body, converse)
        if "prompt" in body:
            return llama.Llama(body, imported=False)
        forms = [nova.FORM, llama.FORM]
    members = ", ".join(map(repr, sorted(body)[:10])) or "nothing"
    raise InvalidInput(f"Malformed input request: the body has {members}; this model takes {' or '.join(forms)}")
