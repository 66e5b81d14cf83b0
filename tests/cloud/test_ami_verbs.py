"""`imgbuild ami`: what it shows of an account, what it removes, and what it never touches."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from imagebuilder.cloud import Fault, RunningCloud
from imagebuilder.ec2.ami import CARRIES, CLUSTER, IMAGE, KEY, NOTHING
from tests.cloud.clients import AT_ONCE, Clients
from tests.cloud.publishing import cloud_in_environment, images, make_image, order, publish, snapshots
from tests.command import Run


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningCloud]:
    with cloud_in_environment(tmp_path / "cloud", monkeypatch, AT_ONCE) as running:
        monkeypatch.setenv("IMGBUILD_DIRECTORY", str(Path(__file__).parents[2]))
        monkeypatch.setenv("IMGBUILD_STORE", str(tmp_path / "store"))
        yield running


@dataclass(frozen=True, kw_only=True)
class Made:
    """An AMI, and what it has."""

    ami: str
    snapshot: str
    name: str
    key: str


@pytest.fixture
def registered(cloud: RunningCloud) -> list[Made]:
    """Three AMIs of one image, the oldest first."""
    aws = Clients(cloud)
    made = []
    for number in range(3):
        tags = {CLUSTER: "squirrel", IMAGE: "worker", KEY: f"{number:064}", CARRIES: "private key"}
        rows = [{"ResourceType": "image", "Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}]
        snapshot, name = aws.snapshot(), f"squirrel-worker-{number}"
        ami = aws.image(name, snapshot, TagSpecifications=rows)
        made.append(Made(ami=ami, snapshot=snapshot, name=name, key=tags[KEY]))
    return made


def ids() -> set[str]:
    return {row["ImageId"] for row in images()}


def test_the_list_has_a_line_for_each(run: Run, registered: list[Made]) -> None:
    code, out, _ = run("ami", "list")

    assert code == 0
    assert [line.split()[:3] for line in out.splitlines()] == [["IMAGE", one.ami, one.name] for one in registered]


def test_what_is_not_the_clusters_is_listed_only_if_asked_for(run: Run, cloud: RunningCloud) -> None:
    aws = Clients(cloud)
    stranger = aws.image("stranger")

    code, out, _ = run("ami", "list")
    _, everything, _ = run("ami", "list", "--all")

    assert (code, out.strip()) == (0, "")
    assert stranger in everything


def test_an_unfinished_upload_is_listed(run: Run, cloud: RunningCloud, tmp_path: Path) -> None:
    cloud.add_fault(Fault(kind="access-denied", action="RegisterImage", nth=2))
    cloud.add_fault(Fault(kind="access-denied", action="DeleteSnapshot", nth=2, count=9))
    with pytest.raises(Exception, match="left behind"):
        publish(order(make_image(tmp_path / "image")), tmp_path / "ami")

    _, out, _ = run("ami", "list")

    [snapshot_id] = snapshots()
    assert out.split()[:2] == ["SNAPSHOT", snapshot_id]


def test_one_is_shown_by_its_name(run: Run, registered: list[Made]) -> None:
    code, out, _ = run("ami", "show", "squirrel-worker-1", "--json")

    shown = json.loads(out)
    assert code == 0
    assert (shown["id"], shown["snapshot_ids"]) == (registered[1].ami, [registered[1].snapshot])
    assert shown["shared_with"] == []


def test_a_name_that_is_nearly_right_is_suggested(run: Run, registered: list[Made]) -> None:
    code, _, err = run("ami", "show", "squirrel-worker-9")

    assert len(registered) == 3
    assert code == 2
    assert "Did you mean 'squirrel-worker-" in err


def test_the_newest_stay(run: Run, registered: list[Made]) -> None:
    code, _, _ = run("ami", "prune", "--keep", "1", "--yes")

    assert code == 0
    assert ids() == {registered[2].ami}
    assert snapshots() == {registered[2].snapshot}


def test_a_dry_run_removes_nothing(run: Run, registered: list[Made]) -> None:
    code, out, _ = run("ami", "prune", "--keep", "0", "--dry-run")

    assert code == 0
    assert [line.split()[:2] for line in out.splitlines()] == [["remove", one.ami] for one in reversed(registered)]
    assert ids() == {one.ami for one in registered}


def test_without_yes_and_without_a_person_nothing_is_removed(run: Run, registered: list[Made]) -> None:
    code, _, err = run("ami", "prune", "--keep", "0")

    assert (code, ids()) == (2, {one.ami for one in registered})
    assert "there is nobody to ask" in err


def test_one_that_an_instance_uses_stays(run: Run, cloud: RunningCloud, registered: list[Made]) -> None:
    Clients(cloud).ec2.run_instances(ImageId=registered[0].ami, MinCount=1, MaxCount=1)

    code, out, _ = run("ami", "prune", "--keep", "0", "--yes")

    assert code == 0
    assert f"keep    {registered[0].ami}  (used by instance i-" in out
    assert ids() == {registered[0].ami}


def test_what_is_not_the_clusters_is_never_removed(run: Run, cloud: RunningCloud) -> None:
    aws = Clients(cloud)
    stranger = aws.image("stranger")
    lone = aws.snapshot()

    code, _, _ = run("ami", "prune", "--keep", "0", "--unfinished", "--yes")

    assert code == 0
    assert ids() == {stranger}
    assert lone in snapshots()


def test_a_snapshot_that_cannot_be_removed_is_listed(run: Run, cloud: RunningCloud, registered: list[Made]) -> None:
    cloud.add_fault(Fault(kind="access-denied", action="DeleteSnapshot"))

    code, _, err = run("ami", "prune", "--keep", "2", "--yes")

    assert code == 7
    assert f"aws --region us-east-1 ec2 delete-snapshot --snapshot-id {registered[0].snapshot}" in err


def test_a_copy_has_the_tags(run: Run, registered: list[Made]) -> None:
    code, out, _ = run("ami", "copy", registered[0].ami, "--to", "eu-west-1", "--json")

    [copy] = json.loads(out)
    assert code == 0
    assert (copy["region"], copy["name"], copy["state"]) == ("eu-west-1", "squirrel-worker-0", "available")
    assert copy["tags"]["imgbuild:key"] == registered[0].key


def test_if_one_copy_fails_none_is_left(run: Run, cloud: RunningCloud, registered: list[Made]) -> None:
    cloud.add_fault(Fault(kind="access-denied", action="CopyImage", nth=2))

    code, _, _ = run("ami", "copy", registered[0].ami, "--to", "eu-west-1", "--to", "eu-west-2")

    regions = cloud.state()["regions"]
    assert code == 6
    assert regions["eu-west-1"]["images"] == {}  # type: ignore[index]


def test_one_with_a_secret_is_never_shared(run: Run, registered: list[Made]) -> None:
    code, _, err = run("ami", "share", registered[0].ami, "210987654321")

    assert code == 2
    assert f"{registered[0].ami}: carries private key" in err


def test_one_without_secrets_is_shared_and_no_longer(run: Run, cloud: RunningCloud, registered: list[Made]) -> None:
    Clients(cloud).ec2.create_tags(Resources=[registered[0].ami], Tags=[{"Key": CARRIES, "Value": NOTHING}])

    shared, _, _ = run("ami", "share", registered[0].ami, "210987654321")
    _, between, _ = run("ami", "show", registered[0].ami, "--json")
    run("ami", "share", registered[0].ami, "210987654321", "--remove")
    _, after, _ = run("ami", "show", registered[0].ami, "--json")

    assert shared == 0
    assert json.loads(between)["shared_with"] == ["210987654321"]
    assert json.loads(after)["shared_with"] == []


def test_no_credentials_is_said(run: Run, cloud: RunningCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cloud.endpoint
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")

    code, _, err = run("ami", "list")

    assert code == 6
    assert "Unable to locate credentials" in err


def test_no_region_is_said(run: Run, cloud: RunningCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cloud.endpoint
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")

    code, _, err = run("ami", "list")

    assert code == 2
    assert "no region of AWS is chosen" in err


def test_a_region_that_is_misspelt_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    monkeypatch.setenv("AWS_REGION", "eu-west1")
    monkeypatch.setenv("IMGBUILD_DIRECTORY", str(Path(__file__).parents[2]))

    code, _, err = run("ami", "list")

    assert code == 2
    assert "AWS has no region 'eu-west1'. Did you mean 'eu-west-1'?" in err
