"""Everything that this cloud does not do itself is done by moto, in this process. The only importer of moto.

It is imported at the first such call, which takes about a second. What it keeps ends with the process.
"""

import threading
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING

from imagebuilder.cloud.calls import Call
from imagebuilder.cloud.http_messages import Response
from imagebuilder.cloud.images import Image
from imagebuilder.cloud.regions import ACCOUNT
from imagebuilder.errors import HostError

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


class Moto:
    """moto's own web application, called without a network."""

    def __init__(self) -> None:
        for package in ("moto", "flask", "flask_cors"):
            if find_spec(package) is None:
                raise HostError(f"{package} is not installed", fix="pip install 'imgbuild[cloud]'")
        self._lock = threading.Lock()

    @cached_property
    def _application(self) -> "WSGIApplication":
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app  # noqa: PLC0415

        application: WSGIApplication = DomainDispatcherApplication(create_backend_app)
        return application

    def forward(self, call: Call) -> Response:
        """Have moto answer a call."""
        from werkzeug.test import EnvironBuilder, run_wsgi_app  # noqa: PLC0415

        request = call.request
        path, _, query = request.target.partition("?")
        headers = [(name, value) for name, value in request.sent_headers if name.lower() != "content-length"]
        builder = EnvironBuilder(
            path=path,
            query_string=query,
            method=request.method,
            headers=headers,
            data=bytes(request.body.read()),
            base_url=f"http://{request.headers.get('host', 'localhost')}",
        )
        with self._lock:  # its models are not made for several threads
            pieces, status, answered = run_wsgi_app(self._application, builder.get_environ(), buffered=True)
            body = b"".join(pieces)
        kept = [(name, value) for name, value in answered.items() if name.lower() != "content-length"]
        return Response(status=int(status.split()[0]), headers=kept, body=body)

    def know_image(self, image: Image, region: str) -> None:
        """Let moto know an image of ours, so that instances of it can run."""
        with self._lock:
            _ = self._application
            from moto.ec2.models import ec2_backends  # noqa: PLC0415
            from moto.ec2.models.amis import Ami  # noqa: PLC0415

            backend = ec2_backends[ACCOUNT][region]
            backend.amis[image.id] = Ami(
                backend,
                image.id,
                name=image.name,
                owner_id=ACCOUNT,
                virtualization_type=image.virtualization_type,
                architecture=image.architecture,
                root_device_name=image.root_device_name or "",
                root_device_type=image.root_device_type,
            )

    def has_key_pair(self, name: str, region: str) -> bool:
        """Whether there is a key pair with this name."""
        with self._lock:
            _ = self._application
            from moto.ec2.models import ec2_backends  # noqa: PLC0415

            return name in ec2_backends[ACCOUNT][region].key_pairs

    def has_key(self, arn: str, region: str) -> bool:
        """Whether there is a KMS key with this ARN, id or alias."""
        with self._lock:
            _ = self._application
            from moto.kms.models import kms_backends  # noqa: PLC0415

            backend = kms_backends[ACCOUNT][region]
            if not arn.startswith(f"arn:aws:kms:{region}:{ACCOUNT}:") and arn.startswith("arn:"):
                return False
            key_id = backend.any_id_to_key_id(arn)
            return key_id in backend.keys
