"""Stage 7: models answer. Each hosted model is a replica, a process of its own; this process holds no weights.

base       what a replica is asked, and what it says: the nouns, and the interface of a replica
chat       questions to tokens, and an answer's pieces to events; no torch
calls      tools told to a model, and its calls read out of what it writes
llama      a replica that is llama.cpp, from the model's GGUF
reference  a replica that is transformers, for models llama.cpp does not know, and to compare with
scripted   a replica that answers from a function: for tests
pool       which replicas run: loaded on first use, kept warm, evicted to a budget of memory, restarted
"""
