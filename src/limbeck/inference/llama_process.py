"""The process of an engine that is llama.cpp: its own server, in C++, does everything after it has started.

    python -m limbeck.inference.llama_process        # reads its settings from standard input, see `child`

Settings: `gguf` (a path), `slots`, `context_tokens` of each slot, `threads`, `prompt_cache_bytes`, `key`.
"""

from __future__ import annotations

import signal
import sys
from typing import Any
from urllib.parse import urlsplit

import xllamacpp

from limbeck.inference.child import begin

__all__ = ["main"]

SPARE_CONNECTIONS = 4
"""Connections beyond one for each slot: for a look at the slots, and for one that is closing."""

MEBIBYTE = 1 << 20


def main() -> None:
    """Load the model, tell the port, serve until the parent ends it."""
    settings, ready = begin()
    try:
        server = xllamacpp.Server(_parameters(settings))
    except RuntimeError:  # why is in the log already, in llama.cpp's words
        sys.exit(f"llama.cpp cannot host {settings['gguf']}")
    ready(urlsplit(server.listening_address).port, settings["context_tokens"])
    signal.pause()


def _parameters(settings: dict[str, Any]) -> Any:
    given = xllamacpp.CommonParams()
    given.model.path = settings["gguf"]
    given.n_parallel = settings["slots"]
    given.n_ctx = settings["slots"] * settings["context_tokens"]
    given.cpuparams.n_threads = given.cpuparams_batch.n_threads = settings["threads"]
    given.n_threads_http = settings["slots"] + SPARE_CONNECTIONS
    given.cache_ram_mib = settings["prompt_cache_bytes"] // MEBIBYTE
    given.hostnames, given.port = ["127.0.0.1"], 0
    given.api_keys = [settings["key"]]
    given.offline = True  # nothing is fetched, whatever a file's metadata name
    given.ui = False
    given.sse_ping_interval = -1  # a ping would pass for a sign of life of an answer that stalls
    given.verbosity = 1  # errors alone
    return given


if __name__ == "__main__":
    main()
