"""Where work is kept.

workspace   a job's folder with its manifests
answers     teachers' answers
objects     what `s3://bucket/key` means: buckets in folders, or an S3 endpoint's
keys        who may call the service
table       a small table in one JSON file
"""
