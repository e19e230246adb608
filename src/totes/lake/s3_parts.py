"""Multipart uploads of objects that are too large for one request to S3; put-if-absent, which obstore's are not."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from totes.errors import StoreError

PART_BYTES_MIN = 64 << 20
_PARTS_MAX = 10_000
_THREADS = 4


def put_in_parts(bucket: str, key: str, file: Path) -> None:
    """Uploads a file as a new object; the parts of a failed upload are removed.

    Raises:
        FileExistsError: the object exists already.
        StoreError: the upload failed, or boto3 is not installed.
    """
    try:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError as error:
        raise StoreError(
            f"s3://{bucket}/{key} has more than 5 GiB: S3 needs a multipart upload, for which boto3 is missing",
            hint="Run pip install 'totes[aws]'",
        ) from error
    client = boto3.client("s3")
    size = file.stat().st_size
    part_bytes = max(PART_BYTES_MIN, math.ceil(size / _PARTS_MAX))
    named = {"Bucket": bucket, "Key": key}
    try:
        upload = {**named, "UploadId": client.create_multipart_upload(**named)["UploadId"]}
        try:
            with ThreadPoolExecutor(_THREADS) as pool:
                numbers = range(1, math.ceil(size / part_bytes) + 1)
                sent = pool.map(lambda number: _put_part(client, upload, file, number, part_bytes), numbers)
                parts = {"Parts": list(sent)}
            client.complete_multipart_upload(**upload, MultipartUpload=parts, IfNoneMatch="*")
        except BaseException:
            client.abort_multipart_upload(**upload)
            raise
    except ClientError as error:
        if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 412:
            raise FileExistsError(key) from error
        raise StoreError(f"writing s3://{bucket}/{key} in parts failed: {error}") from error
    except BotoCoreError as error:
        raise StoreError(f"writing s3://{bucket}/{key} in parts failed: {error}") from error


def _put_part(
    client: Any, upload: dict[str, str], file: Path, number: int, part_bytes: int
) -> dict[str, Any]:
    with file.open("rb") as content:
        content.seek((number - 1) * part_bytes)
        body = content.read(part_bytes)
    answer = client.upload_part(**upload, PartNumber=number, Body=body)
    return {"PartNumber": number, "ETag": answer["ETag"]}
