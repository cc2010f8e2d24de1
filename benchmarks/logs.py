"""A million logged requests, filtered, folded and written as rows, against DuckDB that only reads and filters them.

    make bench-logs                           # or: python benchmarks/logs.py --records 100000 --threads 1

The generator writes gzipped files as Bedrock does: Converse with and without a stream, InvokeModel with the bodies of
Nova, Llama, Anthropic and OpenAI; eight projects, two stages, 200 tenants; two in five prompts are common ones, two in
a hundred requests failed. Bare DuckDB reads the same columns of the same files with the same filter, and counts. Each
side is a process of its own; they take turns, so that what else the machine does meets both. Modules are loaded before
the clock of either starts, which takes us 0.7 s longer however long a log is. Ratios are of computing
time (both processors' together) and of the clock. Exit code 1 if the filter for one project takes more than 1.5 times
bare DuckDB's computing, or any side of ours more than 1 GB.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

WANTED_RATIO, MOST_BYTES = 1.5, 1_000_000_000
RECORDS_A_FILE = 1000
SYSTEM = "You are the desk of an appliance maker. Answer in one short paragraph."
MODELS = ("amazon.nova-pro-v1:0", "meta.llama3-1-70b-instruct-v1:0", "anthropic.claude-3-haiku-20240307-v1:0")
FILTERS = {
    "one project of eight": ({"equals": {"project": "a"}}, """requestMetadata->>'$."project"' = 'a'"""),
    "one stage of two": ({"equals": {"stage": "prod"}}, """requestMetadata->>'$."stage"' = 'prod'"""),
}
COLUMNS = """{schemaType: 'VARCHAR', modelId: 'VARCHAR', errorCode: 'VARCHAR', requestMetadata: 'JSON',
    input: 'STRUCT(inputBodyJson STRUCT("system" JSON, messages JSON, prompt JSON), inputBodyS3Path VARCHAR)'}"""


def write_logs(folder: Path, records: int) -> None:
    """``records`` log records, the same for the same number, in files of `RECORDS_A_FILE`."""
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(5000)]
    common = [_text(rng, words) for _ in range(2000)]
    for at in range(0, records, RECORDS_A_FILE):
        day, hour = divmod(at // RECORDS_A_FILE, 24)
        hours = folder / f"AWSLogs/0/BedrockModelInvocationLogs/us-east-1/2026/{1 + day // 28:02}/{1 + day % 28:02}"
        lines = (json.dumps(_record(rng, words, common)) + "\n" for _ in range(min(RECORDS_A_FILE, records - at)))
        path = hours / f"{hour:02}/{at:09}.json.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress("".join(lines).encode(), 6))


def _text(rng: random.Random, words: list[str]) -> str:
    return " ".join(rng.choices(words, k=rng.randint(8, 60)))


def _record(rng: random.Random, words: list[str], common: list[str]) -> dict:
    prompt = rng.choice(common) if rng.random() < 0.4 else _text(rng, words)
    answer = _text(rng, words)
    operation, request, response = _bodies(rng.random(), prompt, answer)
    record = {
        "schemaType": "ModelInvocationLog",
        "schemaVersion": "1.0",
        "timestamp": "2026-01-02T03:04:05Z",
        "accountId": "000000000000",
        "region": "us-east-1",
        "requestId": f"{rng.getrandbits(128):032x}",
        "operation": operation,
        "modelId": rng.choice(MODELS),
        "identity": {"arn": "arn:aws:iam::000000000000:user/ada"},
        "requestMetadata": {
            "project": rng.choice("abcdefgh"),
            "stage": rng.choice(["prod", "test"]),
            "tenant": f"t{rng.randint(0, 199):03}",
        },
        "input": {"inputContentType": "application/json", "inputTokenCount": 50, "inputBodyJson": request},
        "output": {"outputContentType": "application/json", "outputTokenCount": 40, "outputBodyJson": response},
    }
    if rng.random() < 0.02:
        record["errorCode"] = "ThrottlingException"
        del record["output"]
    return record


def _bodies(kind: float, prompt: str, answer: str) -> tuple[str, dict, object]:
    blocks = [{"role": "user", "content": [{"text": prompt}]}]
    said = {"output": {"message": {"role": "assistant", "content": [{"text": answer}]}}, "stopReason": "end_turn"}
    if kind < 0.5:
        body = {"system": [{"text": SYSTEM}], "messages": blocks, "inferenceConfig": {"maxTokens": 256}}
        return "Converse", body, {**said, "usage": {"inputTokens": 50, "outputTokens": 40, "totalTokens": 90}}
    if kind < 0.65:
        deltas = [{"contentBlockDelta": {"delta": {"text": f"{word} "}}} for word in answer.split()[:20]]
        return "ConverseStream", {"messages": blocks}, [*deltas, {"messageStop": {"stopReason": "end_turn"}}]
    if kind < 0.75:
        return "InvokeModel", {"schemaVersion": "messages-v1", "messages": blocks}, said
    if kind < 0.85:
        return "InvokeModel", {"prompt": prompt, "max_gen_len": 256}, {"generation": answer, "stop_reason": "stop"}
    turns = [{"role": "user", "content": prompt}]
    if kind < 0.95:
        body = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 256, "system": SYSTEM, "messages": turns}
        return "InvokeModel", body, {"content": [{"type": "text", "text": answer}], "stop_reason": "end_turn"}
    body = {"messages": turns, "max_tokens": 256}
    return "InvokeModel", body, {"choices": [{"message": {"role": "assistant", "content": answer}}]}


def bare(folder: Path, condition: str, threads: int) -> int:
    """What DuckDB itself takes to read and filter: how many records fit."""
    import duckdb

    database = duckdb.connect(config={"threads": str(threads)})
    paths = sorted(map(str, folder.rglob("*.json.gz")))
    query = f"""
        select count(*), sum(length(input.inputBodyJson.messages)), sum(length(input.inputBodyJson.system)),
            sum(length(input.inputBodyJson.prompt))
        from read_ndjson($paths, columns = {COLUMNS})
        where schemaType = 'ModelInvocationLog' and errorCode is null and {condition}
    """
    return int(database.execute(query, {"paths": paths}).fetchone()[0])


def ours(folder: Path, filters: dict, threads: int) -> int:
    """Our whole way from files to rows and reasons: how many records fit."""
    from limbeck.intake import extract_logs

    with TemporaryDirectory(dir=folder.parent) as place:
        counts = extract_logs(None, str(folder), Path(place) / "rows.jsonl", filters, threads=threads)
        return counts["taken"] + counts["the same prompt as an earlier record"]


def measured(side: str, folder: Path, name: str, threads: int) -> dict[str, float]:
    """One side in a process of its own."""
    command = [sys.executable, __file__, "--side", side, "--folder", str(folder), "--filter", name]
    done = subprocess.run([*command, "--threads", str(threads)], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def main() -> int:
    """Measure, print, judge."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--records", type=int, default=1_000_000)
    asked.add_argument("--rounds", type=int, default=2)
    asked.add_argument("--threads", type=int, default=1)
    asked.add_argument("--folder", type=Path)
    asked.add_argument("--filter", choices=FILTERS)
    asked.add_argument("--side", choices=("bare", "ours"))
    given = asked.parse_args()
    if given.side:
        import duckdb  # noqa: F401

        import limbeck.intake  # noqa: F401

        filters, condition = FILTERS[given.filter]
        began, computed = time.perf_counter(), time.process_time()
        fit = (
            bare(given.folder, condition, given.threads)
            if given.side == "bare"
            else ours(given.folder, filters, given.threads)
        )
        seconds, computing = time.perf_counter() - began, time.process_time() - computed
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"fit": fit, "seconds": seconds, "computing": computing, "bytes": peak}))
        return 0
    with TemporaryDirectory() as made:
        folder = given.folder or Path(made) / "logs"
        if not folder.exists():
            write_logs(folder, given.records)
        size = sum(path.stat().st_size for path in folder.rglob("*.json.gz"))
        print(f"{given.records:,} records, {size / 1e6:,.0f} MB compressed, {given.threads} threads")
        failed = False
        for name in (given.filter and [given.filter]) or FILTERS:
            rounds = [
                {side: measured(side, folder, name, given.threads) for side in ("bare", "ours")}
                for _ in range(given.rounds)
            ]
            assert len({one["fit"] for pair in rounds for one in pair.values()}) == 1, "the sides differ in what fits"
            ratio, clock = (
                statistics.median(pair["ours"][what] / pair["bare"][what] for pair in rounds)
                for what in ("computing", "seconds")
            )
            peak = max(pair["ours"]["bytes"] for pair in rounds)
            plain, whole = (statistics.median(pair[side]["computing"] for pair in rounds) for side in ("bare", "ours"))
            print(
                f"{name}: {int(rounds[0]['ours']['fit']):,} fit; bare {plain:.1f} s, ours {whole:.1f} s of computing,"
                f" {ratio:.2f} times ({clock:.2f} by the clock), {peak / 1e6:,.0f} MB at most",
                flush=True,
            )
            failed |= peak > MOST_BYTES or (name == "one project of eight" and ratio > WANTED_RATIO)
        return int(failed)


if __name__ == "__main__":
    sys.exit(main())
