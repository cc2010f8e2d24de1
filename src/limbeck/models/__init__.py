"""Models as Limbeck handles them: where they come from (`catalog`, opens without torch), how they are loaded
(`loading`), how a conversation becomes tokens (`chat`; without torch through `tokenizer` and `header`), how a smaller
one is cut from a larger (`shrink`), and how many examples are computed as one row without padding (`packing`).
"""
