"""What the control plane bears: requests a second on one core, over thousands of jobs and hundreds of models.

    make bench-service                        # or: python benchmarks/control_plane.py --jobs 10000 --seconds 2

`limbeck serve` runs as its users run it, held to one core; the client is on another, with a few connections that stay
open and requests that were written and signed beforehand. Every answer is checked against its shape, as always. What
else the machine does takes its share of the core, so each figure has another beside it: requests a second of the
server's own computing, which is what a whole core gives. Rounds take turns over the cases; figures are medians. Exit
code 1 if any case is under 500 requests for a second of computing.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.client import HTTPConnection
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from sqlalchemy.orm import Session

from limbeck.arns import Arns
from limbeck.jobs.queue import open_database
from limbeck.recipe import Recipe
from limbeck.settings import Settings
from limbeck.storage.database import Resource
from limbeck.storage.keys import Keys
from limbeck.storage.ledger import Ledger, now
from limbeck.storage.workspace import write_json

BASE = "huggingface.smollm2-135m-instruct-v1:0"
STATUSES = ("Completed", "Completed", "Completed", "Failed", "Stopped")
MODELS = 200
CONNECTIONS = 8
WANTED = 500


PLACES = 50
"""In a long list, of which pages are asked one after another: what is kept of one page helps the next little."""


def furnish(settings: Settings, jobs: int) -> dict[str, list[str]]:
    """A home with so many jobs and some models; gives the path and query of each case, or several that take turns."""
    arns = Arns(settings.region, settings.account)
    ledger = Ledger(open_database(settings.database))
    recipe = Recipe.build(
        {
            "kind": "distillation",
            "name": "student",
            "source": {"prompts": "/jobs/job/source/train.jsonl"},
            "teacher": {"model": BASE},
            "student": {"shrink": {"layers": 6}},
        },
        "the benchmark",
    ).dump()
    model_arns = [_model(settings, arns, at) for at in range(MODELS)]
    began = now() - timedelta(days=30)
    rows = [_job(arns, at, began + timedelta(seconds=at), recipe, model_arns[at % MODELS]) for at in range(jobs)]
    listing = "/model-customization-jobs"
    last = rows[jobs // 2]
    pages = [
        f"{listing}?maxResults=20&nextToken={_token(rows[at])}" for at in range(jobs // PLACES, jobs, jobs // PLACES)
    ]
    with Session(ledger.engine, expire_on_commit=False) as session, session.begin():
        session.add_all(rows)
    after = quote((began + timedelta(seconds=jobs // 2)).isoformat())
    single = {
        "ListModelCustomizationJobs, 20": f"{listing}?maxResults=20",
        "… by status": f"{listing}?maxResults=20&statusEquals=Stopped",
        "… by a status of none": f"{listing}?maxResults=20&statusEquals=Stopping",
        "… whose name contains": f"{listing}?maxResults=20&nameContains=job-77",
        "… by time and status": f"{listing}?maxResults=20&creationTimeAfter={after}&statusEquals=Failed",
        "GetModelCustomizationJob, by ARN": f"{listing}/{quote(last.arn, safe='')}",
        "GetModelCustomizationJob, by name": f"{listing}/job-{jobs // 3}",
        "GetCustomModel, by ARN": f"/custom-models/{quote(model_arns[MODELS // 2], safe='')}",
        "GetCustomModel, by name": f"/custom-models/model-{MODELS // 2}",
        "ListCustomModels, 20": "/custom-models?maxResults=20",
        "ListFoundationModels": "/foundation-models",
    }
    cases = {case: [target] for case, target in single.items()}
    return {"ListModelCustomizationJobs, from fifty places on": pages, **cases}


def _token(row: Resource) -> str:
    """As the service gives it for a page that ends with ``row``."""
    return quote(base64.urlsafe_b64encode(json.dumps([row.created.isoformat(), row.arn]).encode()).decode())


def _job(arns: Arns, at: int, moment: object, recipe: dict[str, object], model: str) -> Resource:
    stages = ("validationDetails", "dataProcessingDetails", "trainingDetails")
    text = moment.isoformat()
    status = STATUSES[at % len(STATUSES)]
    told = {"status": "Completed", "creationTime": text, "lastModifiedTime": text}
    return Resource(
        arn=arns.resource("model-customization-job", f"{at:012d}", BASE),
        kind="model-customization-job",
        name=f"job-{at}",
        status=status,
        created=moment,
        modified=moment,
        ended=moment,
        model=model if status == "Completed" else None,
        request={
            "jobName": f"job-{at}",
            "customModelName": f"model-{at}",
            "roleArn": "arn:aws:iam::000000000000:role/Limbeck",
            "baseModelIdentifier": BASE,
            "customizationType": "DISTILLATION",
            "trainingDataConfig": {"s3Uri": "s3://desk/prompts.jsonl"},
            "outputDataConfig": {"s3Uri": "s3://desk/output/"},
            "customizationConfig": {
                "distillationConfig": {"teacherModelConfig": {"teacherModelIdentifier": BASE}},
            },
        },
        recipe=recipe,
        facts={
            "foundationModelArn": arns.foundation_model(BASE),
            "model": f"model-{at}",
            "baseModelArn": arns.foundation_model(BASE),
            "hyperParameters": {"epochCount": "3"},
            "statusDetails": {stage: told for stage in stages},
            "trainingMetrics": {"trainingLoss": 0.25},
            "validationMetrics": [{"validationLoss": 0.5}],
        },
    )


def _model(settings: Settings, arns: Arns, at: int) -> str:
    """A registered model, as the river leaves it; gives its ARN."""
    place = settings.jobs / f"job-{at}" / "6-model"
    write_json(place / "manifest.json", {"files": {}})
    arn = arns.custom_model(BASE, f"model-{at}", f"{at:064x}")
    lineage = {"arn": arn, "base_id": BASE, "losses": {"training_loss": 0.25, "validation_loss": 0.5}}
    known = {"name": f"model-{at}", "kind": "distillation", "base": BASE, "fingerprint": f"{at:064x}"}
    write_json(settings.models / f"model-{at}.json", {**known, "lineage": lineage, "path": str(place)})
    return arn


@contextmanager
def serving(settings: Settings, core: int, *flags: str):
    """`limbeck serve` on one core; gives its port and process. The client goes to the other cores."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})  # which the server inherits, with every thread it will have
    command = [sys.executable, "-m", "limbeck", "serve", "--no-worker", "--port", str(port)]
    process = subprocess.Popen([*command, "--home", str(settings.home), *flags], stderr=subprocess.DEVNULL)
    os.sched_setaffinity(0, cores - {core} or cores)
    try:
        until = time.monotonic() + 60
        while not _ready(port):
            assert process.poll() is None and time.monotonic() < until, "the server did not start"
            time.sleep(0.1)
        yield port, process
    finally:
        process.terminate()
        process.wait(20)
        os.sched_setaffinity(0, cores)


def _ready(port: int) -> bool:
    line = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        line.request("GET", "/health")
        return line.getresponse().status == 200
    except ConnectionRefusedError:
        return False
    finally:
        line.close()


def written(target: str, port: int, credentials: Credentials | None) -> bytes:
    """The request as it goes over the wire."""
    asked = AWSRequest("GET", f"http://127.0.0.1:{port}{target}", headers={"Host": f"127.0.0.1:{port}"})
    if credentials is not None:
        SigV4Auth(credentials, "bedrock", "us-east-1").add_auth(asked)
    headers = "".join(f"{name}: {value}\r\n" for name, value in asked.headers.items())
    return f"GET {target} HTTP/1.1\r\n{headers}\r\n".encode()


async def load(port: int, requests: Iterator[bytes], seconds: float) -> float:
    """Requests a second over a few connections, each asking again as soon as it is answered."""
    answered, until = 0, time.perf_counter() + seconds

    async def ask_again() -> None:
        nonlocal answered
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < until:
            writer.write(next(requests))
            head = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]))
            assert head.startswith(b"HTTP/1.1 200"), head + body
            answered += 1
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(ask_again() for _ in range(CONNECTIONS)))
    return answered / (time.perf_counter() - began)


def computed(process: subprocess.Popen[bytes]) -> float:
    """Seconds the server has computed so far."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(
    settings: Settings, cases: dict[str, list[str]], signed: bool, seconds: float, repeats: int, core: int
) -> float:
    """Print a line a case; gives the slowest case's requests for a second of computing."""
    keys = Keys(settings.keys)
    pair = keys.add(f"bench-{signed}") if signed else None
    credentials = Credentials(pair.id, pair.secret) if pair else None
    flags = [] if signed else ["--no-auth"]
    found: dict[str, list[tuple[float, float, float]]] = {case: [] for case in cases}
    with serving(settings, core, *flags) as (port, process):
        for repeat in range(repeats + 1):
            for case, targets in cases.items():
                requests = cycle([written(target, port, credentials) for target in targets])
                before, own, began = computed(process), time.process_time(), time.perf_counter()
                speed = asyncio.run(load(port, requests, seconds if repeat else 0.3))
                wall = time.perf_counter() - began
                share = (computed(process) - before) / wall
                if repeat:  # the first round pays for caches
                    found[case].append((speed, speed / share, (time.process_time() - own) / wall))
    for case, rounds in found.items():
        speed, of_computing, client = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"| {case} | {'yes' if signed else 'no'} | {speed:,.0f} | {of_computing:,.0f} | {client:.0%} |")
    return min(statistics.median(of_computing for _, of_computing, _ in rounds) for rounds in found.values())


def main(jobs: int, seconds: float, repeats: int, core: int) -> bool:
    with TemporaryDirectory(prefix="limbeck-bench-") as folder:
        settings = Settings.read(Path(folder))
        cases = furnish(settings, jobs)
        print(f"{jobs:,} jobs, {MODELS} models, {CONNECTIONS} connections, {repeats} repeats of {seconds:g} s\n")
        print("| request | signed | requests/s | per second of computing | client busy |")
        print("|---|---|---|---|---|")
        slowest = min(measure(settings, cases, signed, seconds, repeats, core) for signed in (False, True))
    print(f"\nslowest: {slowest:,.0f} requests for a second of computing (at least {WANTED} wanted)")
    return slowest >= WANTED


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=2.0, help="of load, each time")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--core", type=int, default=min(os.sched_getaffinity(0)), help="the server's")
    given = parser.parse_args()
    sys.exit(not main(given.jobs, given.seconds, given.repeats, given.core))
