"""STS, as far as one asks who one is; the rest of it is moto's."""

from imagebuilder.cloud.calls import Call
from imagebuilder.cloud.http_messages import Response
from imagebuilder.cloud.regions import ACCOUNT

USER_ARN = f"arn:aws:iam::{ACCOUNT}:user/imgbuild"


def get_caller_identity(call: Call) -> Response:
    """GetCallerIdentity: the one user of the one account."""
    inner = f"<UserId>AIDAIMGBUILDIMGBUILDX</UserId><Account>{ACCOUNT}</Account><Arn>{USER_ARN}</Arn>"
    metadata = f"<ResponseMetadata><RequestId>{call.request_id}</RequestId></ResponseMetadata>"
    text = (
        '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
        f"<GetCallerIdentityResult>{inner}</GetCallerIdentityResult>{metadata}</GetCallerIdentityResponse>"
    )
    return Response(headers=[("Content-Type", "text/xml")], body=text.encode())
