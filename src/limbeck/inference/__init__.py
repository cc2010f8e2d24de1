"""Engines that generate and read.

engine          transformers, the reference: white box, with captured distributions
telling         an answer's text, piece by piece as its tokens come
process, child  a process of its own for an engine, its two halves: in the parent, in the child
llama_process   what runs in one that is llama.cpp, which serving and teachers both start
forced, parity  what a GGUF file says, token by token, against the weights it was made from
export          the file and its figures, for a model's folder
"""
