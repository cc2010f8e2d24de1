"""What hosting costs: our path (pool, client, pieces) against bare llama.cpp, on the very same process in one run.

    make bench-hosting                        # or: python benchmarks/hosting.py --repeats 5 --threads 2

The bare contender writes the same request to llama.cpp's socket and reads bytes until the connection ends, parsing
nothing but the count of tokens in its last lines: no client can be faster. Contenders take turns request by request
(single stream; the overhead is the median of the differences) and round by round (16 clients on 16 slots), so that
what else the machine does meets both. Exit code 1 if the overhead is not under 5 ms, or the throughput under 0.95 of
the bare one's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import statistics
import sys
import time
from collections.abc import Awaitable, Callable

from limbeck.models.catalog import find
from limbeck.serving.base import Done, Generate
from limbeck.serving.launch import launcher
from limbeck.serving.llama import LlamaReplica
from limbeck.serving.pool import PooledReplica, ReplicaPool
from limbeck.settings import Settings

MODEL = "huggingface.smollm2-135m-instruct-v1:0"
CLIENTS = 16
TOKENS = 16
PROMPT = tuple(range(500, 524))
MOST_OVERHEAD_MS, LEAST_RATIO = 5.0, 0.95

Contender = Callable[[Generate], Awaitable[int]]
"""Gets an answer, and says how many tokens it has."""


def ours(replica: PooledReplica) -> Contender:
    async def ask(asked: Generate) -> int:
        async for part in replica.generate(asked):
            if isinstance(part, Done):
                tokens = part.response_tokens + (part.reason == "end")
        return tokens

    return ask


def bare(replica: LlamaReplica) -> Contender:
    async def ask(asked: Generate) -> int:
        body = json.dumps(await replica._request(asked)).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", replica.process.port)
        head = (
            f"POST /completion HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {replica.process.key}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        writer.write(head.encode() + body)
        last = b""
        while read := await reader.read(1 << 16):
            last = (last + read)[-1000:]
        writer.close()
        return int(re.findall(rb'"tokens_predicted":(\d+)', last)[-1])

    return ask


async def single(contenders: dict[str, Contender], pairs: int) -> dict[str, tuple[list[float], list[float]]]:
    """Of each request, contenders in turn: milliseconds, and those in which this process computed."""
    found: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in contenders}
    for pair in range(pairs):
        for name in sorted(contenders, reverse=bool(pair % 2)):
            began, computed = time.perf_counter(), time.process_time()
            await contenders[name](Generate(PROMPT, TOKENS))
            found[name][0].append(1000 * (time.perf_counter() - began))
            found[name][1].append(1000 * (time.process_time() - computed))
    return found


async def many(contender: Contender) -> float:
    """Tokens a second of 16 clients, each with a prompt of its own."""
    began = time.perf_counter()
    counts = await asyncio.gather(*(contender(Generate((*PROMPT, 1000 + i), TOKENS)) for i in range(CLIENTS)))
    return sum(counts) / (time.perf_counter() - began)


async def main(repeats: int, pairs: int, threads: int) -> bool:
    settings = Settings.read()
    launch = launcher(
        lambda source: source.path, home=settings.home, slots=CLIENTS, threads=threads, context_tokens=256
    )
    async with ReplicaPool(launch, memory_bytes=2_000_000_000) as pool:
        replica = await pool.replica(find(MODEL, settings))
        running = replica._host.replica
        assert isinstance(running, LlamaReplica)
        contenders = {"bare": bare(running), "ours": ours(replica)}
        await single(contenders, 2)  # what comes first pays for caches
        await many(contenders["bare"])
        times = await single(contenders, pairs)
        ratios = []
        for repeat in range(repeats):
            speed = {name: await many(contenders[name]) for name in sorted(contenders, reverse=bool(repeat % 2))}
            ratios.append(speed["ours"] / speed["bare"])
            print(f"repeat {repeat + 1}: {speed['ours']:.0f} tokens/s, bare {speed['bare']:.0f}", file=sys.stderr)
    overhead = statistics.median(a - b for a, b in zip(times["ours"][0], times["bare"][0], strict=True))
    ratio = statistics.median(ratios)
    (whole, computed), (bare_whole, bare_computed) = (map(statistics.median, times[name]) for name in ("ours", "bare"))
    print(f"{MODEL}, {threads} thread(s), {pairs} pairs of requests, {repeats} repeats")
    print(f"one stream, {TOKENS} tokens: p50 {whole:.1f} ms, bare {bare_whole:.1f} ms")
    print(f"  overhead, p50: {overhead:.2f} ms (under {MOST_OVERHEAD_MS:g} wanted)")
    print(f"  computing in this process: {computed:.2f} ms, bare {bare_computed:.2f} ms")
    print(f"{CLIENTS} clients: {ratio:.3f} of bare throughput (at least {LEAST_RATIO} wanted)")
    return overhead < MOST_OVERHEAD_MS and ratio >= LEAST_RATIO


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="of the 16 clients")
    parser.add_argument("--pairs", type=int, default=60, help="requests of each contender, one at a time")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    sys.exit(not asyncio.run(main(given.repeats, given.pairs, given.threads)))
