"""Customization jobs as their users meet them: plain boto3 against a server and its worker, on a tiny real model."""

import csv
import io
import json
import re
import time
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError
from tests.api.customization.orders import FOREIGN, distillation, fine_tuning, wait
from tests.homes import TEACHER
from transformers import AutoModelForCausalLM


@pytest.fixture(scope="module")
def distilled(client):
    validators = [{"s3Uri": "s3://desk/watched.jsonl"}, {"s3Uri": "s3://desk/watched-too.jsonl"}]
    asked = distillation("distilled", validationDataConfig={"validators": validators})
    arn = client.create_model_customization_job(**asked, jobTags=[{"key": "team", "value": "desk"}])["jobArn"]
    return wait(client, arn)


def table(home, job, name):
    folder = home / "buckets" / "desk" / "output" / f"model-customization-job-{job['jobArn'].rsplit('/', 1)[-1]}"
    return list(csv.reader(io.StringIO((folder / name).read_text())))


@pytest.mark.row(17, 39)
def test_a_distillation_completes_stage_by_stage_with_a_model_and_its_losses(client, distilled):
    assert (distilled["status"], distilled.get("failureMessage")) == ("Completed", None)
    stages = distilled["statusDetails"]
    order = [stages[name] for name in ("validationDetails", "dataProcessingDetails", "trainingDetails")]
    assert [stage["status"] for stage in order] == ["Completed"] * 3
    moments = [stage["lastModifiedTime"] for stage in order]
    assert moments == sorted(moments)
    assert distilled["endTime"] >= moments[-1] > distilled["creationTime"]
    assert len(distilled["validationMetrics"]) == 2
    model = client.get_custom_model(modelIdentifier=distilled["outputModelArn"])
    for key in (
        "trainingMetrics",
        "validationMetrics",
        "jobArn",
        "jobName",
        "trainingDataConfig",
        "customizationConfig",
    ):
        assert model[key] == distilled[key]
    assert model["baseModelArn"] == distilled["baseModelArn"]


@pytest.mark.row(70)
def test_a_dry_run_says_what_a_distillation_would_take_and_makes_nothing(client):
    asked = distillation("foreseen") | {"hyperParameters": {"dryRun": "true"}}
    with pytest.raises(client.exceptions.ValidationException, match="nothing was made; the job would take") as told:
        client.create_model_customization_job(**asked)
    message = told.value.response["Error"]["Message"]
    assert re.search(
        r"rows: 130, of which .* answers \d+ .* tokens: about [\d,]+ .* time: .* cost: \S+ to \S+ USD", message
    )
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_model_customization_job(jobIdentifier="foreseen")
    with pytest.raises(client.exceptions.ValidationException, match='dryRun: found "yes"'):
        client.create_model_customization_job(**asked | {"hyperParameters": {"dryRun": "yes"}})


@pytest.mark.row(29, 30)
def test_metrics_lie_where_notebooks_read_them_and_equal_what_the_api_says(home, distilled):
    steps = table(home, distilled, "training_artifacts/step_wise_training_metrics.csv")
    assert steps[0] == ["step_number", "epoch_number", "training_loss", "perplexity"]
    assert [row[0] for row in steps[1:]] == [str(number) for number in range(len(steps) - 1)]
    assert float(steps[-1][-2]) == pytest.approx(distilled["trainingMetrics"]["trainingLoss"], rel=1e-4)
    where = "validation_artifacts/post_fine_tuning_validation"
    watched = table(home, distilled, f"{where}/validation_metrics.csv")
    assert watched == table(home, distilled, f"{where}/validation/validation_metrics.csv")
    assert watched[0] == ["step_number", "epoch_number", "validation_loss", "perplexity"]
    losses = [one["validationLoss"] for one in distilled["validationMetrics"]]
    assert min(losses) <= float(watched[-1][-2]) <= max(losses)


@pytest.mark.row(27, 28, 54)
def test_the_whole_synthetic_data_the_report_and_the_weights_are_published(home, distilled):
    folder = home / "buckets/desk/output" / f"model-customization-job-{distilled['jobArn'].rsplit('/', 1)[-1]}"
    kept = [json.loads(line) for line in (folder / "synthetic_data/kept.jsonl").read_text().splitlines()]
    dropped = (folder / "synthetic_data/dropped.jsonl").read_text().splitlines()
    rows = table(home, distilled, "input_data_report/manifest.report.csv")
    assert rows[0] == ["file", "line", "status", "reason"]
    assert rows[-1][0] == "total" and int(rows[-1][1]) == len(rows) - 3
    assert rows[-2][0] == "check" and rows[-2][2] == "passed"
    assert {row["origin"] for row in kept} == {"teacher", "given"}
    assert len(kept) + len(dropped) > 100
    assert (folder / "evaluation/report.html").stat().st_size > 1000
    loaded = AutoModelForCausalLM.from_pretrained(folder / "model")
    assert loaded.config.num_hidden_layers == 4
    assert list((folder / "model").glob("model-*.gguf"))


@pytest.mark.row(37)
def test_advice_on_the_job_lies_in_its_output_with_reasons_and_what_its_figures_say(home, distilled):
    folder = home / "buckets" / "desk" / "output" / f"model-customization-job-{distilled['jobArn'].rsplit('/', 1)[-1]}"
    kept = json.loads((folder / "advice.json").read_text())
    assert kept["counts"]["golden"] == 0 and kept["counts"]["training"] > 100
    by_rule = {rule: one for one in kept["advice"] for rule in one["rules"]}
    assert by_rule["T10"]["value"] == 10 and by_rule["T10"]["stance"] == "consider"
    assert "10 are advised" in by_rule["T3"]["text"]
    assert "ms a request before" in by_rule["T19"]["text"]
    assert all(one["reason"] and one["source"] for one in kept["advice"])


@pytest.mark.row(18, 38)
def test_ninety_nine_prompts_are_refused_at_once_and_every_faulty_row_is_named(client):
    with pytest.raises(client.exceptions.ValidationException, match=r"few\.jsonl: 99 valid prompts.*at least 100"):
        client.create_model_customization_job(
            **{**distillation("few"), "trainingDataConfig": {"s3Uri": "s3://desk/few.jsonl"}}
        )
    with pytest.raises(client.exceptions.ValidationException) as caught:
        client.create_model_customization_job(
            **{**distillation("faulty"), "trainingDataConfig": {"s3Uri": "s3://desk/faulty.jsonl"}}
        )
    said = str(caught.value)
    assert "80 valid prompts of 120 rows" in said
    assert "faulty.jsonl line 1: prompt: found empty text; expected text" in said
    assert "and 20 more rows" in said
    assert client.list_model_customization_jobs(nameContains="few")["modelCustomizationJobSummaries"] == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"baseModelIdentifier": "test.nobody-v1:0"}, "no base or custom model"),
        ({"trainingDataConfig": {}}, "expected exactly one of s3Uri and invocationLogsConfig"),
        ({"trainingDataConfig": {"s3Uri": "s3://desk/nothing.jsonl"}}, "nothing.jsonl"),
        ({"trainingDataConfig": {"s3Uri": "s3://nobody/x.jsonl"}}, "nobody"),
        ({"outputDataConfig": {"s3Uri": "s3://nobody/"}}, "outputDataConfig.s3Uri"),
        ({"hyperParameters": {"epochCount": "9"}}, "epochCount"),
        ({"customizationType": "CONTINUED_PRE_TRAINING"}, 'expected {"input"'),
        ({"customizationType": "REINFORCEMENT_FINE_TUNING"}, "not yet"),
        ({"customizationType": "DISTILLATION"}, "customizationConfig.distillationConfig: missing"),
        ({"roleArn": "arn:aws:iam::1:role/x"}, "roleArn"),
        ({"jobName": "no spaces"}, "jobName"),
    ],
)
@pytest.mark.row(46, 74)
def test_what_cannot_be_run_is_refused_at_once_with_the_reason(client, change, said):
    with pytest.raises(client.exceptions.ValidationException, match=said.replace(".", r"\.")):
        client.create_model_customization_job(**fine_tuning("refused", **change) | change)


@pytest.mark.row(25)
def test_two_pairs_in_one_filter_are_refused(client):
    logs = {
        "invocationLogSource": {"s3Uri": "s3://desk/logs"},
        "requestMetadataFilters": {"equals": {"a": "1", "b": "2"}},
    }
    asked = {**distillation("two-pairs"), "trainingDataConfig": {"invocationLogsConfig": logs}}
    with pytest.raises(client.exceptions.ValidationException, match="length less than or equal to 1"):
        client.create_model_customization_job(**asked)


@pytest.mark.row(40, 41)
def test_a_request_repeated_makes_one_job_and_names_clash(client, distilled):
    asked = fine_tuning("repeated", clientRequestToken="token-1")
    first = client.create_model_customization_job(**asked)["jobArn"]
    assert client.create_model_customization_job(**asked)["jobArn"] == first
    with pytest.raises(client.exceptions.ConflictException, match="clientRequestToken"):
        client.create_model_customization_job(**{**asked, "customModelName": "another"})
    for change in ({"customModelName": "another"}, {"jobName": "another"}):
        with pytest.raises(client.exceptions.ConflictException, match="choose another"):
            client.create_model_customization_job(**{**fine_tuning("repeated"), **change})
    with pytest.raises(client.exceptions.ConflictException, match="model-distilled"):
        client.create_model_customization_job(**{**fine_tuning("later"), "customModelName": "model-distilled"})
    found = client.list_model_customization_jobs(nameContains="repeated")["modelCustomizationJobSummaries"]
    assert [one["jobArn"] for one in found] == [first]
    done = wait(client, first)
    assert (done["status"], done.get("failureMessage")) == ("Completed", None)


@pytest.mark.row(35)
def test_a_custom_model_is_trained_further_and_says_what_it_came_from(client, distilled):
    asked = fine_tuning("further", baseModelIdentifier=distilled["outputModelArn"])
    asked["baseModelIdentifier"] = distilled["outputModelArn"]
    done = wait(client, client.create_model_customization_job(**asked)["jobArn"])
    assert (done["status"], done.get("failureMessage")) == ("Completed", None)
    assert done["baseModelArn"] == distilled["baseModelArn"]
    model = client.get_custom_model(modelIdentifier="model-further")
    assert model["baseModelArn"] == distilled["outputModelArn"]


@pytest.mark.row(34, 35)
def test_a_custom_model_reads_plain_text_and_reads_it_better_afterwards(client, home, distilled):
    asked = fine_tuning(
        "read",
        customizationType="CONTINUED_PRE_TRAINING",
        baseModelIdentifier=distilled["outputModelArn"],
        trainingDataConfig={"s3Uri": "s3://desk/text.jsonl"},
        hyperParameters={"epochCount": "5", "batchSize": "1", "learningRate": "0.0001"},
    )
    job = wait(client, client.create_model_customization_job(**asked)["jobArn"])
    assert (job["status"], job.get("failureMessage")) == ("Completed", None)
    assert job["customizationType"] == "CONTINUED_PRE_TRAINING"
    model = client.get_custom_model(modelIdentifier=job["outputModelArn"])
    assert (model["customizationType"], model["baseModelArn"]) == (
        "CONTINUED_PRE_TRAINING",
        distilled["outputModelArn"],
    )
    folder = home / "buckets" / "desk" / "output" / f"model-customization-job-{job['jobArn'].rsplit('/', 1)[-1]}"
    report = json.loads((folder / "evaluation" / "report.json").read_text())
    before, after = report["models"]["student before"], report["models"]["student after"]
    assert after["perplexity"]["value"] < before["perplexity"]["value"]
    assert "general perplexity" in report["verdict"]


@pytest.mark.row(64, 65)
def test_a_custom_model_teaches_a_student_of_another_family_and_of_other_tokens(client, distilled):
    asked = distillation("abroad")
    config = {"teacherModelIdentifier": distilled["outputModelArn"], "maxResponseLengthForInference": 6}
    asked |= {
        "baseModelIdentifier": FOREIGN,
        "customizationConfig": {"distillationConfig": {"teacherModelConfig": config}},
        "hyperParameters": {"objective": "cross_entropy"},
    }
    done = wait(client, client.create_model_customization_job(**asked)["jobArn"])
    assert done["status"] == "Completed", done
    told = done["customizationConfig"]["distillationConfig"]["teacherModelConfig"]["teacherModelIdentifier"]
    assert told == distilled["outputModelArn"]


@pytest.mark.row(47)
def test_jobs_are_paged_filtered_and_sorted_without_loss(client, distilled):
    everything = client.list_model_customization_jobs()["modelCustomizationJobSummaries"]
    assert len(everything) >= 3
    for order in ("Ascending", "Descending"):
        pages = client.get_paginator("list_model_customization_jobs").paginate(
            sortOrder=order, sortBy="CreationTime", PaginationConfig={"PageSize": 2}
        )
        found = [one["jobName"] for page in pages for one in page["modelCustomizationJobSummaries"]]
        expected = [one["jobName"] for one in everything]
        assert found == (expected if order == "Descending" else expected[::-1])

    def names(**asked):
        return {
            one["jobName"] for one in client.list_model_customization_jobs(**asked)["modelCustomizationJobSummaries"]
        }

    assert names(nameContains="distil") == {"distilled"}
    assert "distilled" in names(statusEquals="Completed") and "distilled" not in names(statusEquals="Stopped")
    assert names(creationTimeAfter=datetime.now(UTC) + timedelta(hours=1)) == set()
    assert names(creationTimeBefore=distilled["creationTime"]) == set()


@pytest.mark.row(71)
def test_tags_are_put_listed_limited_and_taken_away(client, distilled):
    arn = distilled["jobArn"]
    assert client.list_tags_for_resource(resourceARN=arn)["tags"] == [{"key": "team", "value": "desk"}]
    client.tag_resource(resourceARN=arn, tags=[{"key": f"k{i}", "value": "v"} for i in range(49)])
    with pytest.raises(client.exceptions.TooManyTagsException):
        client.tag_resource(resourceARN=arn, tags=[{"key": "one too many", "value": ""}])
    client.untag_resource(resourceARN=arn, tagKeys=[f"k{i}" for i in range(49)])
    assert len(client.list_tags_for_resource(resourceARN=arn)["tags"]) == 1
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.list_tags_for_resource(resourceARN=arn[:-1] + ("a" if arn[-1] != "a" else "b"))


@pytest.mark.row(48, 49, 52)
def test_a_model_in_use_cannot_be_deleted_and_its_deployment_is_updated_in_place(client, server, distilled):
    model = distilled["outputModelArn"]
    made = client.create_custom_model_deployment(modelDeploymentName="front", modelArn=model, description="d")
    arn = made["customModelDeploymentArn"]
    with pytest.raises(client.exceptions.ConflictException, match="custom-model-deployment front"):
        client.delete_custom_model(modelIdentifier=model)
    with pytest.raises(client.exceptions.ConflictException, match='"front" is taken'):
        client.create_custom_model_deployment(modelDeploymentName="front", modelArn=model)
    until = time.monotonic() + 60
    while (found := client.get_custom_model_deployment(customModelDeploymentIdentifier="front"))["status"] != "Active":
        assert found["status"] == "Creating" and time.monotonic() < until
        time.sleep(0.2)
    runtime = server.client(service="bedrock-runtime", read_timeout=120)
    asked = {"messages": [{"role": "user", "content": [{"text": "about my oven number 3: billing please"}]}]}
    config = {"inferenceConfig": {"maxTokens": 6, "temperature": 0}}
    for identifier in (arn, model, "front", TEACHER):
        said = runtime.converse(modelId=identifier, **asked, **config)
        assert said["usage"]["totalTokens"] == said["usage"]["inputTokens"] + said["usage"]["outputTokens"]
    client.update_custom_model_deployment(
        customModelDeploymentIdentifier="front",
        modelArn=client.get_custom_model(modelIdentifier="model-further")["modelArn"],
    )
    while True:
        found = client.get_custom_model_deployment(customModelDeploymentIdentifier=arn)
        runtime.converse(modelId=arn, **asked, **config)
        if found["updateDetails"]["updateStatus"] == "UpdateCompleted":
            break
        assert found["status"] == "Active" and time.monotonic() < until + 60
        time.sleep(0.2)
    assert found["modelArn"] == client.get_custom_model(modelIdentifier="model-further")["modelArn"]
    (summary,) = client.list_custom_model_deployments(modelArnEquals=found["modelArn"])["modelDeploymentSummaries"]
    assert (summary["customModelDeploymentName"], summary["status"]) == ("front", "Active")
    client.delete_custom_model_deployment(customModelDeploymentIdentifier="front")
    with pytest.raises(ClientError) as caught:
        runtime.converse(modelId=arn, **asked)
    assert caught.value.response["Error"]["Code"] == "ValidationException" and "identifier is invalid" in str(
        caught.value
    )


@pytest.mark.row(51)
def test_provisioned_throughput_is_committed_renamed_and_moved_to_a_sibling(client, server, distilled):
    model = distilled["outputModelArn"]
    arn = client.create_provisioned_model_throughput(modelUnits=1, provisionedModelName="pt", modelId=model)[
        "provisionedModelArn"
    ]
    until = time.monotonic() + 60
    while client.get_provisioned_model_throughput(provisionedModelId="pt")["status"] != "InService":
        assert time.monotonic() < until
        time.sleep(0.2)
    client.update_provisioned_model_throughput(
        provisionedModelId=arn, desiredProvisionedModelName="pt-2", desiredModelId=TEACHER
    )
    while client.get_provisioned_model_throughput(provisionedModelId=arn)["status"] != "InService":
        assert time.monotonic() < until
        time.sleep(0.2)
    found = client.get_provisioned_model_throughput(provisionedModelId="pt-2")
    assert found["modelArn"] == found["foundationModelArn"] == found["desiredModelArn"]
    with pytest.raises(client.exceptions.ValidationException, match=r"expected .*foundation-model/test\.taught"):
        client.update_provisioned_model_throughput(
            provisionedModelId=arn, desiredModelId="huggingface.smollm2-135m-instruct-v1:0"
        )
    assert [
        one["provisionedModelName"] for one in client.list_provisioned_model_throughputs()["provisionedModelSummaries"]
    ] == ["pt-2"]
    client.delete_provisioned_model_throughput(provisionedModelId=arn)
    client.create_provisioned_model_throughput(
        modelUnits=1, provisionedModelName="bound", modelId=TEACHER, commitmentDuration="OneMonth"
    )
    with pytest.raises(client.exceptions.ConflictException, match="committed until"):
        client.delete_provisioned_model_throughput(provisionedModelId="bound")
