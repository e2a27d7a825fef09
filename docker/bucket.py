#!/usr/bin/env python3
"""`bucket NAME`: makes the bucket unless it is there; where and as whom, the AWS_ variables say."""

from __future__ import annotations

import sys

from s3fs import S3FileSystem


def main(name: str) -> str:
    """Make the bucket and say whether it was there."""
    fs = S3FileSystem()
    there = {bucket["Name"] for bucket in fs.call_s3("list_buckets")["Buckets"]}
    if name in there:
        return f"The bucket {name} is there"
    fs.call_s3("create_bucket", Bucket=name)
    return f"Made the bucket {name}"


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
