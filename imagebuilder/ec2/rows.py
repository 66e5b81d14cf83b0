"""Tags and filters as EC2 writes them: lists of small dictionaries."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import FilterTypeDef, TagTypeDef


def filter_rows(filters: Mapping[str, Sequence[str]]) -> "list[FilterTypeDef]":
    """Filters by name, for a Describe call."""
    return [{"Name": name, "Values": list(values)} for name, values in filters.items()]


def tag_rows(tags: Mapping[str, str]) -> "list[TagTypeDef]":
    """Tags for EC2."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def tag_mapping(rows: "Sequence[TagTypeDef]") -> dict[str, str]:
    """Tags from EC2."""
    return {row.get("Key", ""): row.get("Value", "") for row in rows}
