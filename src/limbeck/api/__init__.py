"""The faces that talk to programs: Amazon Bedrock's wire, read from botocore's own service models, and OpenAI's.

    wire         requests and responses of the AWS rest-json protocol, checked against the service model
    eventstream  the framing of AWS's event streams
    faults       what went wrong, as a client of AWS expects to hear it
    auth         signatures, verified
    bedrock      Amazon Bedrock: a function of `control` or of `invoking` for each operation
    invoking     the operations that have a model answer
    openai       OpenAI's endpoint
    bodies       the forms in which models are asked, and answer
    runtime      what both need to have a model answer, and the log of it
    presence     work that ends when its client leaves
    app          the application: one port, several faces
    serve        the process

No rule of the business lives here, and nothing here reaches torch.
"""
