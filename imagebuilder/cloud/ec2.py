"""EC2: what is about images and snapshots is done here, strictly; instances and all else are moto's."""

from collections.abc import Mapping

from imagebuilder.cloud import ec2_images, ec2_register, ec2_snapshots, ec2_tags
from imagebuilder.cloud.calls import Call
from imagebuilder.cloud.ec2_call import Action, Ec2Call
from imagebuilder.cloud.ec2_query import Parameters, to_xml
from imagebuilder.cloud.filters import read_filters
from imagebuilder.cloud.holdings import Holdings
from imagebuilder.cloud.http_messages import Response
from imagebuilder.cloud.moto_services import Moto
from imagebuilder.cloud.refusals import Refusal
from imagebuilder.cloud.regions import REGIONS
from imagebuilder.cloud.snapshots import utc_now
from imagebuilder.cloud.throttle import Throttle
from imagebuilder.cloud.tuning import Tuning

_ACTIONS: Mapping[str, Action] = {
    "RegisterImage": ec2_register.register_image,
    "CopyImage": ec2_register.copy_image,
    "DeregisterImage": ec2_register.deregister_image,
    "DescribeImages": ec2_images.describe_images,
    "DescribeImageAttribute": ec2_images.describe_image_attribute,
    "ModifyImageAttribute": ec2_images.modify_image_attribute,
    "EnableImageDeprecation": ec2_images.enable_image_deprecation,
    "DisableImageDeprecation": ec2_images.disable_image_deprecation,
    "EnableImage": ec2_images.enable_image,
    "DisableImage": ec2_images.disable_image,
    "DescribeSnapshots": ec2_snapshots.describe_snapshots,
    "DeleteSnapshot": ec2_snapshots.delete_snapshot,
    "DescribeSnapshotAttribute": ec2_snapshots.describe_snapshot_attribute,
    "ModifySnapshotAttribute": ec2_snapshots.modify_snapshot_attribute,
    "GetEbsEncryptionByDefault": ec2_snapshots.get_encryption_by_default,
    "EnableEbsEncryptionByDefault": ec2_snapshots.enable_encryption_by_default,
    "DisableEbsEncryptionByDefault": ec2_snapshots.disable_encryption_by_default,
    "GetEbsDefaultKmsKeyId": ec2_snapshots.get_default_key,
    "ModifyEbsDefaultKmsKeyId": ec2_snapshots.modify_default_key,
    "ResetEbsDefaultKmsKeyId": ec2_snapshots.reset_default_key,
    "CreateTags": ec2_tags.create_tags,
    "DeleteTags": ec2_tags.delete_tags,
    "DescribeTags": ec2_tags.describe_tags,
}
_OTHER_KINDS = {"instance", "key-pair", "elastic-ip", "security-group", "volume", "vpc", "subnet", "network-interface"}


class Ec2:
    """Carries out the calls of the service `ec2`."""

    def __init__(self, holdings: Holdings, *, moto: Moto, throttle: Throttle, tuning: Tuning) -> None:
        self._holdings = holdings
        self._moto = moto
        self._throttle = throttle
        self._tuning = tuning

    def handle(self, call: Call) -> Response:
        """Carry out a call, whose signature has been checked. Raises Refusal."""
        region = self._holdings.regions[call.region]
        self._require_rate(call)
        if call.action == "DescribeRegions":
            return self._describe_regions(call)
        own = _ACTIONS.get(call.action)
        if own is None or (call.action.endswith("Tags") and _is_about_others(call)):
            return self._forward(call)
        document = own(
            Ec2Call(
                parameters=Parameters(call.parameters),
                region=region,
                holdings=self._holdings,
                tuning=self._tuning,
                key_exists=self._moto.has_key,
                now=utc_now(),
                subject=call.subject,
            )
        )
        return self._answer(call, document)

    def _answer(self, call: Call, document: Mapping[str, object]) -> Response:
        body = to_xml(call.action, call.request_id, document)
        return Response(headers=[("Content-Type", "text/xml;charset=UTF-8")], body=body)

    def _require_rate(self, call: Call) -> None:
        reads = call.action.startswith(("Describe", "Get"))
        tuning = self._tuning
        a_second = tuning.describes_a_second if reads else tuning.changes_a_second
        at_once = tuning.describes_at_once if reads else tuning.changes_at_once
        bucket = "reads" if reads else call.action
        if not self._throttle.allows(f"{call.region} ec2 {bucket}", a_second=a_second, at_once=at_once):
            raise Refusal(code="RequestLimitExceeded", message="Request limit exceeded.", status=503)

    def _forward(self, call: Call) -> Response:
        if "Image" in call.action or "Snapshot" in call.action:
            # moto would answer, and know nothing of the images and snapshots that there are.
            message = f"The action {call.action} is not valid for this cloud: it does not carry it out."
            raise Refusal(code="InvalidAction", message=message)
        if call.action == "RunInstances":
            self._let_run(call)
        return self._moto.forward(call)

    def _let_run(self, call: Call) -> None:
        """Make sure that the image of new instances can be launched, and that moto knows it; it asks no questions."""
        image_id = call.parameters.get("ImageId", "")
        now = utc_now()
        images = self._holdings.regions[call.region].images
        image = images.find(image_id, now)
        if image is None:
            message = f"The image id '[{image_id}]' does not exist"
            raise Refusal(code="InvalidAMIID.NotFound", message=message)
        if image.state(now) != "available":
            message = f"The image ID '{image_id}' is {image.state(now)}"
            raise Refusal(code="InvalidAMIID.Unavailable", message=message)
        key_pair = call.parameters.get("KeyName")
        if key_pair is not None and not self._moto.has_key_pair(key_pair, call.region):
            raise Refusal(code="InvalidKeyPair.NotFound", message=f"The key pair '{key_pair}' does not exist")
        self._moto.know_image(image, call.region)

    def _describe_regions(self, call: Call) -> Response:
        parameters = Parameters(call.parameters)
        wanted, filters = parameters.texts("RegionName"), read_filters(parameters)
        parameters.flag("AllRegions")
        parameters.flag("DryRun")
        parameters.finish()
        unknown = set(wanted) - set(REGIONS)
        if unknown:
            raise Refusal(code="InvalidParameterValue", message=f"Invalid region names: {sorted(unknown)}")
        names = [name for name in REGIONS if not wanted or name in wanted]
        names = [name for name in names if name in filters.get("region-name", (name,))]
        shown = [
            {
                "regionName": name,
                "regionEndpoint": f"ec2.{name}.amazonaws.com",
                "optInStatus": "opt-in-not-required",
            }
            for name in names
        ]
        return self._answer(call, {"regionInfo": shown})


def _is_about_others(call: Call) -> bool:
    """Whether a call about tags is not about images and snapshots."""
    if call.action == "DescribeTags":
        filters = read_filters(Parameters(call.parameters))
        ids, kinds = filters.get("resource-id", ()), filters.get("resource-type", ())
        return any(not one.startswith(ec2_tags.OWN_KINDS) for one in ids) or bool(_OTHER_KINDS & set(kinds))
    ids = Parameters(call.parameters).texts("ResourceId")
    return bool(ids) and not any(one.startswith(ec2_tags.OWN_KINDS) for one in ids)
