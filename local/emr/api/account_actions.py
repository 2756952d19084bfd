"""The actions that concern no cluster: releases, security configurations, and the block of public access."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from moto.core.responses import ActionResult, EmptyResult

from local.emr.api.applications import applications_of, has_application
from local.emr.api.base import EmrRequest
from local.emr.clusters import validation
from local.emr.clusters.errors import InvalidRequestError

MAX_LABELS = 100
"""Default and greatest number of labels in one answer (ListReleaseLabels, MaxResults)."""

DEFAULT_PUBLIC_ACCESS = {
    "BlockPublicSecurityGroupRules": True,
    "PermittedPublicSecurityGroupRuleRanges": [{"MinRange": 22, "MaxRange": 22}],
}


class AccountActions(EmrRequest):
    """The actions that concern a region of the account. moto keeps the security configurations in memory."""

    def list_release_labels(self) -> ActionResult:
        """List the release labels of the region that match, in pages."""
        filters = self._request.get("Filters") or {}
        prefix, application = filters.get("Prefix", "").lower(), filters.get("Application", "")
        labels = [
            label
            for label in validation.release_labels(self.region)
            if label.startswith(prefix) and (not application or has_application(label, application))
        ]
        start = self._first(self._request.get("NextToken"), labels)
        page = labels[start : start + self._request.get("MaxResults", MAX_LABELS)]
        more = {"NextToken": _token(page[-1])} if page and page[-1] != labels[-1] else {}
        return ActionResult({"ReleaseLabels": page, **more})

    def describe_release_label(self) -> ActionResult:
        """Describe a release: its applications, as far as the endpoint knows them."""
        label = self._request.get("ReleaseLabel", "")
        if label not in validation.release_labels(self.region):
            raise InvalidRequestError(f"The release label '{label}' is not valid.")
        return ActionResult({"ReleaseLabel": label, "Applications": applications_of(label)})

    @staticmethod
    def _first(token: str | None, labels: list[str]) -> int:
        if not token:
            return 0
        for number, label in enumerate(labels, start=1):
            if _token(label) == token:
                return number
        raise InvalidRequestError("NextToken is not valid.")

    def create_security_configuration(self) -> Any:
        """Create a security configuration with a new name."""
        name = self._request["Name"]
        if name in self.backend.security_configurations:
            raise InvalidRequestError(f"SecurityConfiguration with name '{name}' already exists.")
        return super().create_security_configuration()

    def list_security_configurations(self) -> ActionResult:
        """List the security configurations of the region, with their creation times."""
        configurations = sorted(self.backend.security_configurations.values(), key=lambda item: str(item.name))
        found = [{"Name": item.name, "CreationDateTime": item.creation_date_time} for item in configurations]
        return ActionResult({"SecurityConfigurations": found})

    def get_block_public_access_configuration(self) -> ActionResult:
        """Return the block of public access; by default it blocks all ports but 22, as in EMR."""
        if not self.backend.block_public_access_configuration:
            self._set_block_public_access(DEFAULT_PUBLIC_ACCESS)
        return ActionResult(self.backend.block_public_access_configuration)

    def put_block_public_access_configuration(self) -> EmptyResult:
        """Set the block of public access, which the endpoint records only."""
        self._set_block_public_access(self._request["BlockPublicAccessConfiguration"])
        return EmptyResult()

    def _set_block_public_access(self, configuration: Mapping[str, Any]) -> None:
        creator = f"arn:aws:iam::{self.current_account}:root"
        self.backend.block_public_access_configuration = {
            "BlockPublicAccessConfiguration": configuration,
            "BlockPublicAccessConfigurationMetadata": {
                "CreationDateTime": datetime.now(UTC),
                "CreatedByArn": creator,
            },
        }


def _token(label: str) -> str:
    return base64.urlsafe_b64encode(label.encode()).decode()
