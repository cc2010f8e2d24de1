"""Models as Limbeck handles them: where they come from (`catalog`, opens without torch), how they are loaded
(`loading`), how a conversation becomes tokens (`chat`; without torch through `tokenizer` and `header`), how a
smaller one is cut from a larger (`shrink` in memory, by `importance` or for a `budget`, and `cutting` in a file),
how one learns beside frozen weights (`adapters`), and how many examples are computed as one row without padding
(`packing`). How one comes in from elsewhere (`importing`) and leaves for other engines (`gguf_file`, which rests on
`weights`, `gguf_families` and `gguf_vocabulary`; `modelfile`; `gguf_cache`), all without torch.
"""
