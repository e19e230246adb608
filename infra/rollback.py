"""Points the functions' alias `live` at the package before the present one: `make rollback`.

Reads the functions' names from standard input, as `terraform output -json functions` prints them. Nothing is changed unless all
of them have an earlier package.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import boto3


def main() -> None:
    """Finds each function's version to go back to, then goes back to it."""
    client = boto3.client("lambda")
    steps = {name: _earlier(client, name) for name in json.load(sys.stdin).values()}
    if missing := [name for name, (_, version) in steps.items() if version is None]:
        sys.exit(f"error: there is no earlier package of {', '.join(missing)}; nothing was changed")
    for name, (live, version) in steps.items():
        client.update_alias(FunctionName=name, Name="live", FunctionVersion=str(version))
        print(f"{name}: version {version} is live, instead of {live}")


def _earlier(client: Any, name: str) -> tuple[int, int | None]:
    """The version that is live, and the newest one before it with another package."""
    live = int(client.get_alias(FunctionName=name, Name="live")["FunctionVersion"])
    pages = client.get_paginator("list_versions_by_function").paginate(FunctionName=name)
    versions = (version for page in pages for version in page["Versions"])
    packages = {int(one["Version"]): one["CodeSha256"] for one in versions if one["Version"] != "$LATEST"}
    earlier = (number for number in packages if number < live and packages[number] != packages[live])
    return live, max(earlier, default=None)


if __name__ == "__main__":
    main()
