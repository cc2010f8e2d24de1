"""A small S3, so that a notebook's `boto3.client("s3")` and `aws s3 cp` work against the same endpoint.

Buckets (make, list, head, remove), objects (put, get with ranges, head, copy, delete, delete many), the three listings
and uploads in parts. There is one version of an object, called `null`. A bucket's settings (policy, tags, public
access) are kept and given back, and have no effect: who may call is the access keys' matter. What is not here answers
NotImplemented. Where Limbeck keeps its objects at an S3 endpoint, clients are sent there.

operations  what is done, by method and query
asking      what a request says: where, what, under which conditions
listing     a page of keys
answers     XML, the pieces of an object, and what S3 calls its faults
"""

from __future__ import annotations

from limbeck.api.s3.operations import S3

__all__ = ["S3"]
