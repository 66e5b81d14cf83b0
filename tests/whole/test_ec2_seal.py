"""The worker of the shipped recipes, as it is built, may become an AMI; and the others boot on EC2 just as well."""

from pathlib import Path

import pytest

from imagebuilder.ec2.inspect_image import inspect_image
from imagebuilder.ec2.seal import boot_mode, findings, named_secrets
from imagebuilder.host.accelerator import appliance_environment, probe_accelerator
from imagebuilder.image.bases import Bench
from imagebuilder.image.store import Store

pytestmark = pytest.mark.whole


def test_the_worker_may_become_an_ami_for_its_own_account_only(cluster: Path, tmp_path: Path) -> None:
    store = Store(root=cluster / "store")
    image = store.current("worker", "worker")
    assert image is not None
    bench = Bench(
        store=store,
        environment=lambda: appliance_environment(probe_accelerator(tmp_path)),
        log=tmp_path / "log",
        on_step=lambda _: None,
    )

    evidence = inspect_image(image, bench)

    assert list(map(str, findings(evidence))) == []
    assert boot_mode(evidence) == "legacy-bios"
    assert [(str(one.path), one.kind, one.mode) for one in named_secrets(evidence)] == [
        ("/etc/openvpn/client/client.key", "private key", 0o600),
        ("/etc/openvpn/client/tls-crypt.key", "OpenVPN key", 0o600),
    ]
    assert {finding.rule for finding in findings(evidence, "public")} == {"audience"}
