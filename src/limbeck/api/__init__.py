"""The faces that talk to programs, on one port.

    app         the application: picks the face a request speaks to, verifies who asks, reads its body
    auth        signatures and bearer keys, verified; `sessions` of who took a role
    body        a request's body on its way in; `checksums` it came with; `presence` of the one who waits
    bedrock     Amazon Bedrock: a function of `control` or of `invoking` for each operation; `faults` its errors
    invoking    the operations that have a model answer; `runtime` what they and OpenAI's need for it
    eventstream the framing of AWS's event streams
    openai      OpenAI's endpoint
    s3          a small S3
    identity    a small STS and IAM; `query` is their protocol, in `xml` as is S3's
    serve       the process: `tls` its certificates, `logs` its log

What they speak, without HTTP, is in `wire`. No rule of the business lives here, and nothing here reaches torch.
"""
