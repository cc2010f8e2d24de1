"""Stage 7: models answer. Each hosted model is a replica, a process of its own; this process holds no weights.

base               what a replica is asked, and what it says: the nouns, and the interface of a replica
chat               questions to tokens, and an answer's pieces to events; no torch
calls              tools told to a model, and its calls read out of what it writes
llama              a replica that is llama.cpp, from the model's GGUF
reference          a replica that is transformers, for models llama.cpp does not know, and to compare with
scripted           a replica that answers from a function: for tests
completion         the client of both kinds of process: llama.cpp's /completion over loopback
stops              stop sequences, found in the text
reference_process  what runs in one that is transformers, and the only module here that reaches torch
footprint          how much memory a model takes, from its file's header
pool               which replicas run: loaded on first use, kept warm, evicted to a budget of memory, restarted
launch             how a model is hosted, for the pool
metrics            what is counted, for Prometheus
logbook            the invocation log, which intake reads
"""
