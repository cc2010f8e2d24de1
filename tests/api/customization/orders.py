"""What the tests order: the bodies of jobs, and waiting for their end."""

import time

from tests.homes import TEACHER

FOREIGN = "test.foreign-v1:0"
ROLE = "arn:aws:iam::000000000000:role/Limbeck"


def fine_tuning(name, **more):
    return {
        "jobName": name,
        "customModelName": f"model-{name}",
        "roleArn": ROLE,
        "baseModelIdentifier": TEACHER,
        "customizationType": "FINE_TUNING",
        "trainingDataConfig": {"s3Uri": "s3://desk/pairs.jsonl"},
        "outputDataConfig": {"s3Uri": "s3://desk/output/"},
        "hyperParameters": {"epochCount": "2", "batchSize": "16", "learningRate": "0.0001"},
        **more,
    }


def distillation(name, **more):
    teacher = {"teacherModelIdentifier": TEACHER, "maxResponseLengthForInference": 6}
    return fine_tuning(
        name,
        customizationType="DISTILLATION",
        trainingDataConfig={"s3Uri": "s3://desk/prompts.jsonl"},
        customizationConfig={"distillationConfig": {"teacherModelConfig": teacher}},
        hyperParameters={},
        **more,
    )


def wait(client, job, *ends, seconds=240):
    until = time.monotonic() + seconds
    while True:
        found = client.get_model_customization_job(jobIdentifier=job)
        if found["status"] in (ends or ("Completed", "Failed", "Stopped")):
            return found
        assert time.monotonic() < until, found
        time.sleep(0.3)
