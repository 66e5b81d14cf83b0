"""The actions of EC2 on the tags of images and snapshots."""

from collections.abc import Callable, Iterator, Mapping

from imagebuilder.cloud.ec2_call import Ec2Call
from imagebuilder.cloud.ec2_query import bad_value, page_of
from imagebuilder.cloud.filters import fits, read_filters
from imagebuilder.cloud.refusals import Refusal
from imagebuilder.cloud.tags import read_tags, with_tags

# What this cloud keeps itself; the tags of everything else are moto's.
OWN_KINDS = ("ami-", "snap-")


def create_tags(call: Ec2Call) -> Mapping[str, object]:
    """Give tags to images and snapshots, or new values to those that they have."""
    ids, tags = call.parameters.texts("ResourceId"), read_tags(call.parameters)
    if not ids or not tags:
        raise Refusal(
            code="MissingParameter", message="The request must contain the parameters resourceIdSet and tagSet"
        )
    return _retag(call, ids, lambda before: with_tags(before, tags))


def delete_tags(call: Ec2Call) -> Mapping[str, object]:
    """Take tags away; one that is named with a value only if it has that value."""
    ids = call.parameters.texts("ResourceId")
    doomed = [(given.required("Key"), given.text("Value")) for given in call.parameters.things("Tag")]
    if not ids:
        raise Refusal(code="MissingParameter", message="The request must contain the parameter resourceIdSet")

    def left(before: Mapping[str, str]) -> dict[str, str]:
        if not doomed:
            return {}
        return {key: value for key, value in before.items() if (key, None) not in doomed and (key, value) not in doomed}

    return _retag(call, ids, left)


def _retag(
    call: Ec2Call, ids: list[str], change: Callable[[Mapping[str, str]], dict[str, str]]
) -> Mapping[str, object]:
    with call.region.images.lock, call.region.snapshots.lock:
        images = [call.image(one) for one in ids if one.startswith("ami-")]
        snapshots = [call.snapshot(one) for one in ids if one.startswith("snap-")]
        if len(images) + len(snapshots) < len(ids):
            raise bad_value("Tag images and snapshots in one call, and everything else in another")
        new_images = [image.model_copy(update={"tags": change(image.tags)}) for image in images]
        new_snapshots = [snapshot.model_copy(update={"tags": change(snapshot.tags)}) for snapshot in snapshots]
        call.begin()
        for image in new_images:
            call.region.images.put(image)
        for snapshot in new_snapshots:
            call.region.snapshots.change(snapshot)
    return {"return": True}


def describe_tags(call: Ec2Call) -> Mapping[str, object]:
    """Show the tags that fit."""
    filters = read_filters(call.parameters)
    tags = [tag for tag in _all_tags(call) if fits(_traits(tag), filters)]
    page, token = page_of(call.parameters, tags, least=5, ids=())
    call.begin()
    return {"tagSet": list(page), "nextToken": token}


def _traits(tag: Mapping[str, str]) -> Mapping[str, list[str]]:
    return {
        "key": [tag["key"]],
        "value": [tag["value"]],
        "resource-id": [tag["resourceId"]],
        "resource-type": [tag["resourceType"]],
        f"tag:{tag['key']}": [tag["value"]],
    }


def _all_tags(call: Ec2Call) -> Iterator[Mapping[str, str]]:
    images = [(image.id, "image", image.tags) for image in call.region.images if image.visible_at <= call.now]
    snapshots = [(one.id, "snapshot", one.tags) for one in call.region.snapshots.visible(call.now)]
    for resource_id, kind, tags in (*images, *snapshots):
        for key, value in tags.items():
            yield {"resourceId": resource_id, "resourceType": kind, "key": key, "value": value}
