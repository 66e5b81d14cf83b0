"""The actions of EC2 on snapshots, and on what an account sets for their encryption."""

from collections.abc import Mapping
from datetime import datetime

from imagebuilder.cloud.ec2_call import Ec2Call
from imagebuilder.cloud.ec2_images import check_grantees
from imagebuilder.cloud.ec2_query import Parameters, bad_combination, bad_value, page_of
from imagebuilder.cloud.filters import NO_VOLUME, fits, read_filters, snapshot_traits
from imagebuilder.cloud.refusals import Refusal
from imagebuilder.cloud.regions import ACCOUNT
from imagebuilder.cloud.snapshots import Snapshot
from imagebuilder.cloud.tags import tag_set

_PERMISSION = "createVolumePermission"


def describe_snapshots(call: Ec2Call) -> Mapping[str, object]:
    """Show the snapshots that fit."""
    parameters = call.parameters
    ids, owners, filters = parameters.texts("SnapshotId"), parameters.texts("Owner"), read_filters(parameters)
    restorable = parameters.texts("RestorableBy")
    snapshots = [call.snapshot(snapshot_id) for snapshot_id in ids] or call.region.snapshots.visible(call.now)
    if owners and not {"self", ACCOUNT} & set(owners):
        snapshots = []
    if restorable:
        snapshots = [one for one in snapshots if {"self", ACCOUNT, *one.volume_users} & set(restorable)]
    fitting = [one for one in snapshots if fits(snapshot_traits(one, ACCOUNT), filters)]
    page, token = page_of(parameters, [_shown(one, call.now) for one in fitting], least=5, ids=ids)
    call.begin()
    return {"snapshotSet": list(page), "nextToken": token}


def _shown(snapshot: Snapshot, now: datetime) -> Mapping[str, object]:
    state = snapshot.state(now)
    return {
        "snapshotId": snapshot.id,
        "volumeId": NO_VOLUME,
        "status": state,
        "statusMessage": "Cancelled: nothing happened for longer than its Timeout." if snapshot.failed else None,
        "startTime": snapshot.started_at,
        "completionTime": snapshot.completed_at if state == "completed" else None,
        "progress": f"{snapshot.progress(now)}%",
        "ownerId": ACCOUNT,
        "volumeSize": snapshot.volume_size_gib,
        "description": snapshot.description,
        "encrypted": snapshot.kms_key_arn is not None,
        "kmsKeyId": snapshot.kms_key_arn,
        "tagSet": tag_set(snapshot.tags),
        "storageTier": "standard",
    }


def delete_snapshot(call: Ec2Call) -> Mapping[str, object]:
    """Delete a snapshot that no image is made of."""
    snapshot_id = call.parameters.required("SnapshotId")
    with call.region.images.lock, call.region.snapshots.lock:
        snapshot = call.snapshot(snapshot_id)
        if users := call.region.images.users_of(snapshot.id):
            message = f"The snapshot {snapshot.id} is currently in use by {users[0]}"
            raise Refusal(code="InvalidSnapshot.InUse", message=message)
        call.begin()
        call.region.snapshots.delete(snapshot.id)
    return {"return": True}


def describe_snapshot_attribute(call: Ec2Call) -> Mapping[str, object]:
    """Show who may make volumes of a snapshot."""
    snapshot = call.snapshot(call.parameters.required("SnapshotId"))
    call.parameters.one_of("Attribute", _PERMISSION)
    call.parameters.required("Attribute")
    call.begin()
    groups = [{"group": group} for group in sorted(snapshot.volume_groups)]
    users = [{"userId": user} for user in sorted(snapshot.volume_users)]
    return {"snapshotId": snapshot.id, _PERMISSION: [*groups, *users]}


def modify_snapshot_attribute(call: Ec2Call) -> Mapping[str, object]:
    """Change who may make volumes of a snapshot."""
    parameters = call.parameters
    snapshot_id = parameters.required("SnapshotId")
    attribute, operation = (
        parameters.one_of("Attribute", _PERMISSION),
        parameters.one_of("OperationType", "add", "remove"),
    )
    permission = parameters.thing("CreateVolumePermission")
    added, removed = _grantees(permission, "Add"), _grantees(permission, "Remove")
    named = frozenset(parameters.texts("UserId")), frozenset(parameters.texts("UserGroup"))
    if any(named) and (attribute is None or operation is None):
        raise bad_combination("UserId and UserGroup need an Attribute and an OperationType")
    if operation == "add":
        added = added[0] | named[0], added[1] | named[1]
    elif operation == "remove":
        removed = removed[0] | named[0], removed[1] | named[1]
    check_grantees(added)
    with call.region.snapshots.lock:
        snapshot = call.snapshot(snapshot_id)
        if snapshot.kms_key_arn and "all" in added[1]:
            raise bad_value("Encrypted snapshots cannot be shared with everybody")
        call.begin()
        update = {
            "volume_users": (snapshot.volume_users | added[0]) - removed[0],
            "volume_groups": (snapshot.volume_groups | added[1]) - removed[1],
        }
        call.region.snapshots.change(snapshot.model_copy(update=update))
    return {"return": True}


def _grantees(permission: Parameters, name: str) -> tuple[frozenset[str], frozenset[str]]:
    things = permission.things(name)
    users = frozenset(user for thing in things if (user := thing.text("UserId")))
    return users, frozenset(group for thing in things if (group := thing.text("Group")))


def get_encryption_by_default(call: Ec2Call) -> Mapping[str, object]:
    """Whether new snapshots and volumes are encrypted without asking."""
    call.begin()
    return {"ebsEncryptionByDefault": call.region.settings.encryption_by_default, "sseType": "sse-ebs"}


def enable_encryption_by_default(call: Ec2Call) -> Mapping[str, object]:
    """Have new snapshots and volumes encrypted."""
    return _set_default(call, {"encryption_by_default": True}, {"ebsEncryptionByDefault": True})


def disable_encryption_by_default(call: Ec2Call) -> Mapping[str, object]:
    """Have them encrypted only if that is asked for."""
    return _set_default(call, {"encryption_by_default": False}, {"ebsEncryptionByDefault": False})


def get_default_key(call: Ec2Call) -> Mapping[str, object]:
    """The key that encrypts what names none."""
    call.begin()
    return {"kmsKeyId": call.region.settings.default_kms_key or "alias/aws/ebs"}


def modify_default_key(call: Ec2Call) -> Mapping[str, object]:
    """Choose the key that encrypts what names none."""
    key = call.parameters.required("KmsKeyId")
    if not call.key_exists(key, call.region.name):
        raise bad_value(f"The KMS key {key} does not exist or cannot be used")
    return _set_default(call, {"default_kms_key": key}, {"kmsKeyId": key})


def reset_default_key(call: Ec2Call) -> Mapping[str, object]:
    """Have the key of AWS encrypt what names none."""
    return _set_default(call, {"default_kms_key": None}, {"kmsKeyId": "alias/aws/ebs"})


def _set_default(call: Ec2Call, update: Mapping[str, object], answer: Mapping[str, object]) -> Mapping[str, object]:
    call.begin()
    call.region.change_settings(call.region.settings.model_copy(update=dict(update)))
    return answer
