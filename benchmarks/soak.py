"""Whether work survives: kill -9 in the middle of every stage of jobs of every kind, and then everything is counted.

    make soak                                 # or: python -m benchmarks.soak --kills 20 --seed 1

The same requests are made twice, on a tiny model, each time in a home of its own: once in peace, and once while the
worker, the child it watches over, or the server with both, is killed: which, and how long after a stage was seen to
make progress, is drawn from a seed. What is killed comes back by itself, the server is begun again. At the end every
job must have ended well, with the very weights of the unbroken run; no answer of a teacher may have been paid for
twice; no file half written and no process may be left; and whoever looked at the jobs meanwhile must have seen no end
taken back and no time run backwards. Exit code 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import re
import shutil
import signal
import sqlite3
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

os.environ |= {"LIMBECK_THREADS": "1", "HF_HUB_OFFLINE": "1"}

import botocore.exceptions
from tests.api.server import Server
from tests.conftest import make_model
from tests.factory import message, pairs, write_rows
from tests.homes import TEACHER, tiny_home

import limbeck
from limbeck.storage.answers import AnswerStore

ROLE = "arn:aws:iam::000000000000:role/Limbeck"
GOOD = {"Completed", "Active", "InService"}
ENDS = {*GOOD, "Failed", "Stopped", "Expired", "PartiallyCompleted"}
DAY = 86_400
HALF_WRITTEN = re.compile(r"\..+\.[a-z0-9_]{8}|.+\.tmp")
MOST_SECONDS = 1800
CHILD_DEATHS = 2
"""Of one job under one worker: at the third the job is given up, as it should be."""

KILLS_A_PLACE = 4
"""So that they spread over the stages."""

HOSTING = ("limbeck.inference.", "limbeck.serving.")
"""Processes that answer for a batch or an evaluation: while there is one, it asks."""


def taught(place: Path) -> Path:
    """A tiny model that has learned to end its answers: a teacher."""
    recipe = {
        "kind": "fine-tuning",
        "name": "taught",
        "source": {"prompts": str(pairs(place / "lessons.jsonl", 40)), "held_out_share": 0.2},
        "student": {"model": str(make_model(place / "untaught"))},
        "synthesis": {"max_response_tokens": 6},
        "training": {"epochs": 20, "batch_size": 8, "learning_rate": 0.01, "freeze_embeddings": False},
        "evaluation": {"latency_requests": 2},
    }
    return limbeck.fine_tune(recipe, home=place / "school").path


def furnish(home: Path, model: Path) -> None:
    """A home with a teacher, data, and an account book of what is paid for."""
    tiny_home(home, model)
    bucket = home / "buckets" / "desk"
    bucket.mkdir(parents=True)
    pairs(bucket / "pairs.jsonl", 120)
    pairs(bucket / "prompts.jsonl", 500, labelled=False)
    shutil.copytree(home / "taught", bucket / "weights")
    asked = {"messages": [], "inferenceConfig": {"maxTokens": 8, "temperature": 0}}
    records = [
        {
            "recordId": f"R{i:06d}",
            "modelInput": {**asked, "messages": [{"role": "user", "content": [{"text": message(i)[0]}]}]},
        }
        for i in range(120)
    ]
    write_rows(bucket / "records.jsonl", records)
    write_rows(
        bucket / "dataset.jsonl", [{"prompt": message(i)[0], "referenceResponse": message(i)[1]} for i in range(40)]
    )
    AnswerStore(home / "answers.sqlite").close()
    with closing(sqlite3.connect(home / "answers.sqlite")) as database:
        database.execute("create table paid (key text)")
        database.execute("create trigger pay before insert on answers begin insert into paid values (new.key); end")
        database.commit()


class Service:
    """The server of one home, and the jobs it was asked for."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.server = Server(home, "--no-auth")

    def order(self) -> None:
        """Ask for a job of every kind; a deployment of what they make is asked for by `look`, once it is made."""
        client = self.server.client()
        config = {"teacherModelConfig": {"teacherModelIdentifier": TEACHER, "maxResponseLengthForInference": 8}}
        common = {"roleArn": ROLE, "outputDataConfig": {"s3Uri": "s3://desk/output/"}}
        training = {**common, "baseModelIdentifier": TEACHER}
        client.create_model_customization_job(
            jobName="distilled",
            customModelName="distilled",
            customizationType="DISTILLATION",
            trainingDataConfig={"s3Uri": "s3://desk/prompts.jsonl"},
            customizationConfig={"distillationConfig": config},
            hyperParameters={"epochCount": "5", "batchSize": "8"},
            **training,
        )
        client.create_provisioned_model_throughput(modelUnits=1, provisionedModelName="steady", modelId=TEACHER)
        client.create_model_customization_job(
            jobName="tuned",
            customModelName="tuned",
            trainingDataConfig={"s3Uri": "s3://desk/pairs.jsonl"},
            hyperParameters={"epochCount": "5", "batchSize": "2", "learningRate": "0.0001"},
            **training,
        )
        client.create_model_import_job(
            jobName="brought",
            importedModelName="brought",
            roleArn=ROLE,
            modelDataSource={"s3DataSource": {"s3Uri": "s3://desk/weights/"}},
        )
        client.create_model_invocation_job(
            jobName="batch",
            roleArn=ROLE,
            modelId=TEACHER,
            inputDataConfig={"s3InputDataConfig": {"s3Uri": "s3://desk/records.jsonl"}},
            outputDataConfig={"s3OutputDataConfig": {"s3Uri": "s3://desk/batch/"}},
        )
        metrics = {
            "taskType": "QuestionAndAnswer",
            "dataset": {"name": "rows", "datasetLocation": {"s3Uri": "s3://desk/dataset.jsonl"}},
            "metricNames": ["Builtin.Accuracy", "Builtin.Robustness"],
        }
        client.create_evaluation_job(
            jobName="judged",
            evaluationConfig={"automated": {"datasetMetricConfigs": [metrics]}},
            inferenceConfig={
                "models": [{"bedrockModel": {"modelIdentifier": TEACHER, "inferenceParams": '{"maxTokens": 8}'}}]
            },
            **common,
        )

    def look(self) -> dict[str, tuple[str, object]]:
        """Every job's status and time of change, by name. The distilled model is deployed as soon as it is there."""
        client = self.server.client(read_timeout=10, connect_timeout=5)
        found = {}
        for one in client.list_model_customization_jobs()["modelCustomizationJobSummaries"]:
            found[one["jobName"]] = (one["status"], one["lastModifiedTime"])
        for one in client.list_model_import_jobs()["modelImportJobSummaries"]:
            found[one["jobName"]] = (one["status"], one["lastModifiedTime"])
        for one in client.list_model_invocation_jobs()["invocationJobSummaries"]:
            found[one["jobName"]] = (one["status"], one["lastModifiedTime"])
        for one in client.list_evaluation_jobs()["jobSummaries"]:
            found[one["jobName"]] = (one["status"], one["creationTime"])
        for one in client.list_provisioned_model_throughputs()["provisionedModelSummaries"]:
            found[one["provisionedModelName"]] = (one["status"], one["lastModifiedTime"])
        for one in client.list_custom_model_deployments()["modelDeploymentSummaries"]:
            found[one["customModelDeploymentName"]] = (one["status"], one["lastUpdatedAt"])
        done = {name for name, (status, _) in found.items() if status in GOOD}
        if "distilled" in done and "front" not in found:
            arn = client.get_custom_model(modelIdentifier="distilled")["modelArn"]
            client.create_custom_model_deployment(modelDeploymentName="front", modelArn=arn)
        if {"front", "tuned"} <= done:
            found["front, updated"] = self._update(client)
        return found

    def _update(self, client) -> tuple[str, object]:
        """The deployment gets another model behind it; says whether it has."""
        arn = client.get_custom_model(modelIdentifier="tuned")["modelArn"]
        front = client.get_custom_model_deployment(customModelDeploymentIdentifier="front")
        if "updateDetails" not in front:
            client.update_custom_model_deployment(customModelDeploymentIdentifier="front", modelArn=arn)
        return "Active" if front["modelArn"] == arn else "Updating", front["lastUpdatedAt"]


class Watch(threading.Thread):
    """Looks at the jobs all the time, and remembers what should not have been seen."""

    def __init__(self, service: Service) -> None:
        super().__init__(daemon=True)
        self.service, self.seen, self.faults, self.looks = service, {}, [], 0
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(0.5):
            try:
                found = self.service.look()
            except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError, OSError) as error:
                # A server that was just killed says nothing; one that answers must not answer with a fault of its own.
                if isinstance(error, botocore.exceptions.ClientError):
                    self.faults.append(str(error))
                continue
            self.looks += 1
            for name, (status, moment) in found.items():
                before, then = self.seen.get(name, (status, moment))
                if before in ENDS and status != before:
                    self.faults.append(f"{name}: {before}, and then {status}")
                if moment < then:
                    self.faults.append(f"{name}: changed at {then}, and then at {moment}")
            self.seen |= found

    @property
    def done(self) -> bool:
        ended = {name for name, (status, _) in self.seen.items() if status in ENDS}
        last = {"front", "front, updated"}
        expected = last if self.seen.get("distilled", ("",))[0] in ("", "Completed") else set()
        return bool(ended) and ended >= self.seen.keys() | expected


LABOR = "limbeck.worker.labor"
"""What a child's command line has before its parent and its job's ARN."""


def processes(word: str) -> Iterator[tuple[int, list[str]]]:
    """The processes that have ``word`` in their command line."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            # A forked child's title is one text, a command's words are apart.
            command = path.read_bytes().decode(errors="replace").replace("\0", " ").split()
        except OSError:
            continue
        if any(word in part for part in command):
            yield int(path.parent.name), command


def under_way(home: Path) -> dict[str, int]:
    """What is in the middle of being done, and how far it is. Nothing that is only being started is in the middle, but
    for what is made ready, which is over at once."""
    mine = list(processes(str(home)))
    children = {_name(home, _arn(command)) for _, command in mine if LABOR in command}
    asking = any(part.startswith(HOSTING) for _, command in mine for part in command)
    found = {}
    for folder in home.glob("jobs/*/[1-6]-*"):
        if folder.parent.name in children and not (folder / "manifest.json").exists():
            found[f"{folder.parent.name} {folder.name}"] = _progress(home, folder)
    if "brought" in children and any(home.glob("imported/.*")):
        found["brought, copied"] = 1
    for name in {"batch", "judged"} & children if asking else ():
        found[f"{name}, asking"] = _processed(home, name)
    for name in {"front", "steady"} & children:
        found[f"{name}, made ready"] = 1
    return found


def _progress(home: Path, folder: Path) -> int:
    metrics = folder / "metrics.csv"
    if "training" in folder.name:
        return len(metrics.read_text().splitlines()) - 1 if metrics.exists() else 0
    return paid(home)[0] if folder.name[0] in "25" else 1


def _processed(home: Path, name: str) -> int:
    with closing(sqlite3.connect(f"file:{home / 'limbeck.sqlite'}?mode=ro", uri=True)) as database:
        said = "select json_extract(facts, '$.processedRecordCount') from resources where name = ?"
        return database.execute(said, (name,)).fetchone()[0] or 1


def strike(service: Service, place: str, dice: random.Random, deaths: dict[tuple[int, str], int]) -> str | None:
    """Kill one of the processes of a home that are at ``place``; says which. None if there was nothing to kill."""
    victim = dice.choice(("worker", "child", "child", "server"))
    mine = list(processes(str(service.home)))
    for pid, command in mine if victim == "child" else ():
        if LABOR in command and _name(service.home, _arn(command)) in place:
            arn, parent = _arn(command), int(command[command.index(LABOR) + 1])
            if deaths.get((parent, arn), 0) < CHILD_DEATHS:
                deaths[parent, arn] = deaths.get((parent, arn), 0) + 1
                os.kill(pid, signal.SIGKILL)
                return f"child, {place}"
            victim = "worker"
    if victim == "worker":
        for pid, command in mine:
            if "limbeck.worker.shift" in command:
                os.kill(pid, signal.SIGKILL)
                return f"worker, {place}"
    if victim == "server":
        process = service.server.process
        process.kill()
        process.wait()
        process.stderr.close()
        service.server = Server(service.home, "--no-auth")
        return f"server, {place}"
    return None


def _arn(command: list[str]) -> str:
    return command[command.index(LABOR) + 2]


def _name(home: Path, arn: str) -> str:
    with closing(sqlite3.connect(f"file:{home / 'limbeck.sqlite'}?mode=ro", uri=True)) as database:
        return database.execute("select name from resources where arn = ?", (arn,)).fetchone()[0]


def run(home: Path, kills: int, dice: random.Random) -> tuple[Watch, list[str]]:
    """Have all jobs done, with so many kills meanwhile; gives who watched, and the kills."""
    service = Service(home)
    service.order()
    watch = Watch(service)
    watch.start()
    began, struck, deaths = time.monotonic(), [], {}
    reached: dict[str, int] = {}  # by place, how far it was when it was last struck
    count: Counter[str] = Counter()
    while not watch.done and time.monotonic() - began < MOST_SECONDS:
        time.sleep(0.05)
        further = [place for place, far in under_way(home).items() if far > reached.get(place, 0)] if kills else []
        further = [place for place in further if count[place] < KILLS_A_PLACE]
        if len(struck) == kills or not further:
            continue
        time.sleep(dice.choice((0, 0, 0.1, 0.3)))
        place = dice.choice(sorted(further))
        reached[place] = max(under_way(home).get(place, 0), 1)
        said = strike(service, place, dice, deaths)
        if said is not None:
            count[place] += 1
            reached[place] *= "made ready" not in place  # which is over at once, and is only there or not
            struck.append(f"{time.monotonic() - began:6.1f} s  {said}")
            print(f"  {struck[-1]}", file=sys.stderr, flush=True)
    watch.over.set()
    watch.join()
    service.server.stop()
    print(f"  all ended after {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return watch, struck


def weights(home: Path) -> dict[str, str]:
    """Every model's weights, by what made them, as SHA-256."""
    found = {}
    for path in (*home.glob("jobs/*/6-model/*.safetensors"), *home.glob("imported/*/*.safetensors")):
        name = path.parts[-3] if path.parent.name == "6-model" else "brought"
        found[f"{name}/{path.name}"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def paid(home: Path) -> tuple[int, int]:
    """Answers stored, and answers paid for."""
    with closing(sqlite3.connect(home / "answers.sqlite")) as database:
        return tuple(database.execute(f"select count(*) from {table}").fetchone()[0] for table in ("answers", "paid"))


def half_written(home: Path) -> list[Path]:
    """Files nobody will read again."""
    found = [*home.glob("scratch/*"), *home.glob("buckets/.incoming/*")]
    found += [path for path in home.rglob("*") if HALF_WRITTEN.fullmatch(path.name)]
    return sorted(set(found))


def left_next_day(home: Path) -> list[Path]:
    """What is still half written when the service is begun again a day later."""
    for path in half_written(home):
        then = path.stat().st_mtime - DAY - 1
        os.utime(path, (then, then))
    server = Server(home, "--no-auth")
    until = time.monotonic() + 30
    while not any("limbeck.worker.shift" in command for _, command in processes(str(home))):
        assert time.monotonic() < until, "no worker was begun"
        time.sleep(0.1)
    while half_written(home) and time.monotonic() < until:
        time.sleep(0.1)
    server.stop()
    return half_written(home)


def outputs(home: Path) -> dict[str, int]:
    """Lines in what batches and evaluations left."""
    bucket = home / "buckets" / "desk"
    found = [*bucket.glob("batch/*/*.jsonl.out"), *bucket.glob("output/judged/*/**/*_output.jsonl")]
    return {path.relative_to(bucket).parts[0]: len(set(path.read_text().splitlines())) for path in found}


def main(kills: int, seed: int) -> bool:
    with TemporaryDirectory(prefix="limbeck-soak-", ignore_cleanup_errors=True) as folder:
        place = Path(folder)
        model = taught(place)
        homes = {name: place / name for name in ("unbroken", "broken")}
        for home in homes.values():
            home.mkdir()
            furnish(home, model)
        print("unbroken:", file=sys.stderr)
        peace, _ = run(homes["unbroken"], 0, random.Random(seed))
        print("broken:", file=sys.stderr)
        watch, struck = run(homes["broken"], kills, random.Random(seed))
        broken = homes["broken"]
        stored, bought = paid(broken)
        ended = {name: status for name, (status, _) in watch.seen.items()}
        checks = {
            f"{kills} kills": (len(struck), kills),
            "jobs that ended well": (sorted(ended), sorted(name for name in ended if ended[name] in GOOD)),
            "the same jobs as unbroken": (sorted(ended), sorted(peace.seen)),
            "weights as unbroken": (weights(broken), weights(homes["unbroken"])),
            "lines in outputs as unbroken": (outputs(broken), outputs(homes["unbroken"])),
            "answers stored as unbroken": (stored, paid(homes["unbroken"])[0]),
            "answers paid for": (bought, stored),
            "files half written after a day": (left_next_day(broken), []),
            "processes left": ([pid for pid, _ in processes(str(place)) if pid != os.getpid()], []),
            f"faults seen in {watch.looks} looks": (watch.faults, []),
        }
        print("| check | |\n|---|---|")
        for name, (found, wanted) in checks.items():
            shown = "good" if found == wanted else f"**found {found}, expected {wanted}**"
            print(f"| {name} | {shown} |")
        good = all(found == wanted for found, wanted in checks.values())
        if not good:
            for path in sorted(broken.glob("logs/*.log")):
                print(f"\n--- {path.name}\n{path.read_text()[-3000:]}", file=sys.stderr)
    return good


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    sys.exit(not main(given.kills, given.seed))
