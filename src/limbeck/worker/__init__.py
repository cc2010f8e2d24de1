"""Takes jobs from the durable queue and sees them through: the service's hands. Never imports `control`.

shift            one worker process: takes jobs, watches over the child that does each
labor            the child: does one job, tells how it goes, writes how it ended
ending           the states in which rows end, and what a failure leaves behind
sweeping         what killed processes left half written
customization    a job of the river: fetches its data, runs the pipeline, publishes what came of it
outputs          what a customization job leaves in its output location, as Amazon Bedrock lays it out
importing        weights from a bucket become a model of this home
batch            a file of requests, answered
evaluation       a model, or answers brought along, measured
"""
