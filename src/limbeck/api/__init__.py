"""The faces that talk to programs, on one port.

    app         the application: picks the face a request speaks to, verifies who asks, reads its body
    exchange    what every face is given and gives back
    auth        signatures and bearer keys, verified; `sessions` of who took a role
    body        a request's body on its way in; `checksums` it came with
    bedrock     the control plane; `wire` is its protocol, `faults` its errors
    s3          a small S3
    identity    a small STS and IAM; `query` is their protocol, in `xml` as is S3's
    serve       the process: `tls` its certificates, `logs` its log

No rule of the business lives here, and nothing here reaches torch.
"""
