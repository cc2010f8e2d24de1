"""Stage 5: the teacher, the student before and after, and a classical baseline on the held-out rows; a report.

`compare` does the stage, `candidates` are who is examined, `metrics` holds the scores, `latency` the timing,
`baseline` the classical model, `verdict` the decision in words, `page` the HTML. Import the one that is wanted: who
needs the scores alone is not made to load torch.
"""
