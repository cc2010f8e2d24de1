"""Objects: what `s3://bucket/key` means here.

base      the interface, keys and addresses, copies between objects and local files
buckets   a folder a bucket, an object a file in it: what is meant where no endpoint is configured
uploads   uploads in parts into those folders
endpoint  buckets of any S3-compatible server

objects = open_objects(Settings.read())
objects.fetch("s3://desk/prompts.jsonl", Path("prompts.jsonl"))
objects.publish_tree(Path("6-model"), "s3://desk/output/job-1")
"""

from __future__ import annotations

from limbeck.settings import Settings
from limbeck.storage.objects.base import Found, Objects, check_key, parse_uri
from limbeck.storage.objects.buckets import Buckets
from limbeck.storage.objects.endpoint import Endpoint
from limbeck.storage.objects.uploads import Uploads

__all__ = ["Buckets", "Endpoint", "Found", "Objects", "Uploads", "check_key", "open_objects", "parse_uri"]


def open_objects(settings: Settings) -> Objects:
    """The objects of an installation: its S3 endpoint's where one is configured, else those of its own folder."""
    return Endpoint(settings.s3) if settings.s3 else Buckets(settings.buckets)
