"""The faces that talk to programs: Amazon Bedrock's wire, read from botocore's own service models.

    wire      requests and responses of the AWS rest-json protocol, checked against the service model
    faults    what went wrong, as a client of AWS expects to hear it
    auth      signatures, verified
    app       the application: routes, and one function of `control` for each operation
    serve     the process

No rule of the business lives here, and nothing here reaches torch.
"""
