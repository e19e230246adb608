"""Terraform over a copy of infra/, with nothing changed but where it finds AWS, its provider and its state."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
INFRA = ROOT / "infra"

_OVERRIDES = """\
terraform {
  backend "local" {}
}

provider "aws" {
  s3_use_path_style           = true
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_region_validation      = true
  max_retries                 = 1
}
"""


class TerraformFailed(Exception):
    """Terraform said no."""


@dataclass
class Deployment:
    """A root of infra/ in a folder of its own."""

    folder: Path
    environment: dict[str, str]
    _applying: subprocess.Popen[bytes] | None = None
    _removed: bool = False

    @classmethod
    def prepared(
        cls, root: Path, folder: Path, environment: Mapping[str, str], overrides: str = _OVERRIDES
    ) -> Deployment:
        """Copies the root and initialises it.

        Raises:
            TerraformFailed: also where no provider can be had.
        """
        shutil.copytree(root, folder, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*", "*.tfvars"))
        (folder / "override.tf").write_text(overrides, encoding="utf-8")
        made = cls(folder, {**os.environ, **configuration(folder.parent), **environment})
        made.run("init", "-input=false")
        return made

    def run(self, *arguments: str, accept: tuple[int, ...] = (0,)) -> str:
        """Runs Terraform and gives what it printed."""
        done = subprocess.run(
            ["terraform", f"-chdir={self.folder}", *arguments, "-no-color"],
            env=self.environment, capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        if done.returncode not in accept:
            raise TerraformFailed(f"terraform {arguments[0]}: {done.stdout[-4000:]}{done.stderr[-6000:]}")
        return done.stdout

    def begin(self, **variables: Any) -> None:
        """Begins to make everything, with these variables from now on."""
        (self.folder / "terraform.tfvars.json").write_text(json.dumps(variables), encoding="utf-8")
        with (self.folder / "apply.log").open("wb") as log:
            self._applying = subprocess.Popen(
                ["terraform", f"-chdir={self.folder}", "apply", "-auto-approve", "-input=false", "-no-color"],
                env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def apply_only(self, *addresses: str, **variables: Any) -> None:
        """Makes what has these addresses, and what they need."""
        (self.folder / "terraform.tfvars.json").write_text(json.dumps(variables), encoding="utf-8")
        targets = [f"-target={address}" for address in addresses]
        self.run("apply", "-auto-approve", "-input=false", *targets)

    @property
    def begun(self) -> bool:
        """Whether it is being made or was made, and nothing has failed so far."""
        return self._applying is not None and not self._applying.poll()

    @property
    def under_way(self) -> bool:
        """Whether it is still being made."""
        return self._applying is not None and self._applying.poll() is None

    def finish(self) -> None:
        """Waits until everything is made."""
        assert self._applying is not None
        if self._applying.wait(300):
            log = (self.folder / "apply.log").read_text("utf-8")
            raise TerraformFailed(log[max(log.find("Error:"), 0) :][:4000])

    def remove(self) -> None:
        """Removes everything but the lake, once, when all of it is made."""
        if not self._removed:
            self.finish()
            self.destroy()
            self._removed = True

    def destroy(self) -> None:
        """Removes everything but the lake, as `make remove` does."""
        environment = self.environment | {"TERRAFORM": f"terraform -chdir={self.folder}"}
        leave = [str(ROOT / "infra" / "leave_lake")]
        subprocess.run(leave, env=environment, check=True, capture_output=True, timeout=300)
        self.run("destroy", "-auto-approve", "-input=false")

    def changes(self) -> dict[str, Any]:
        """What another apply would change, by address: nothing, as it should be."""
        self.run("plan", "-input=false", "-detailed-exitcode", "-out=again.plan", accept=(0, 2))
        plan = json.loads(self.run("show", "-json", "again.plan"))
        return {
            change["address"]: (change["change"]["before"], change["change"]["after"])
            for change in plan.get("resource_changes", [])
            if change["change"]["actions"] not in (["no-op"], ["read"])
        }

    @cached_property
    def outputs(self) -> dict[str, Any]:
        """The outputs' values, as they are after the first apply."""
        return {name: output["value"] for name, output in json.loads(self.run("output", "-json")).items()}

    def resources(self) -> list[str]:
        """The addresses of all that is in the state."""
        return self.run("state", "list").splitlines()


def configuration(folder: Path) -> dict[str, str]:
    """The environment in which Terraform takes its provider from the mirror that TERRAFORM_MIRROR names, if it does."""
    mirror = os.environ.get("TERRAFORM_MIRROR")
    lines = ["disable_checkpoint = true"]
    if mirror:
        lines += [
            "provider_installation {",
            "  filesystem_mirror {",
            f"    path    = {json.dumps(mirror)}",
            '    include = ["registry.terraform.io/*/*"]',
            "  }",
            "}",
        ]
    file = folder / "terraform.rc"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {"TF_CLI_CONFIG_FILE": str(file), "TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1"}
