"""Tags, as EC2 lets one write them."""

from collections.abc import Mapping

from imagebuilder.cloud.ec2_query import Parameters, bad_value
from imagebuilder.cloud.refusals import Refusal

_MOST = 50


def read_tags(parameters: Parameters) -> dict[str, str]:
    """The tags of a call that writes them."""
    tags: dict[str, str] = {}
    for given in parameters.things("Tag"):
        key, value = given.required("Key"), given.text("Value") or ""
        if key in tags:
            raise bad_value(f"Duplicate tag key '{key}' specified.")
        if len(key) > 127 or len(value) > 255:
            raise bad_value("Tag key exceeds the maximum of 127 characters, or its value that of 255")
        if key.startswith("aws:"):
            raise bad_value("Tag keys starting with 'aws:' are reserved for internal use")
        tags[key] = value
    return tags


def read_tag_specifications(parameters: Parameters, *kinds: str) -> Mapping[str, dict[str, str]]:
    """The tags that a call gives to what it makes, for each kind of it."""
    tags: dict[str, dict[str, str]] = {kind: {} for kind in kinds}
    for given in parameters.things("TagSpecification"):
        kind = given.required("ResourceType")
        if kind not in tags:
            raise bad_value(f"'{kind}' is not a valid taggable resource type for this operation.")
        if tags[kind]:
            raise bad_value(f"Duplicate resource type '{kind}' in the tag specifications")
        tags[kind] = read_tags(given)
    return tags


def with_tags(before: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    """The tags with some new ones. Raises Refusal if they are too many."""
    tags = {**before, **new}
    if len(tags) > _MOST:
        raise Refusal(code="TagLimitExceeded", message="The maximum number of Tags for a resource has been reached.")
    return tags


def tag_set(tags: Mapping[str, str]) -> list[Mapping[str, object]] | None:
    """The tags as EC2 shows them; None if there are none."""
    return [{"key": key, "value": value} for key, value in tags.items()] or None
