"""What is spoken, apart from how it is carried: shared by the faces and by the workers that answer batches.

shapes       values held to botocore's shapes
operations   AWS's rest-json protocol, from botocore's own service models: requests read, answers checked
extensions   the few values taken that AWS's description refuses
bodies       the forms in which models are asked, and answer
exchange     one request and one response, whatever protocol they speak
"""
