from datetime import datetime
from ipaddress import IPv4Address

import pytest

from imagebuilder.operate.grid import Grid, Job, QueueInstance
from imagebuilder.operate.reading import Reading, Worker
from imagebuilder.operate.status import ClusterStatus, Expected, HostStatus, compare, to_json

EXPECTED = Expected(
    cluster="squirrel",
    server="oneserver",
    hosts=("local02", "local01"),
    workers={"workernode0": IPv4Address("10.1.1.100"), "workernode1": IPv4Address("10.1.1.101")},
)
JOB = Job(number=7, name="sleep", owner="clouduser", state="r", slots=1, since="2026-11-25T03:12:11", tasks="4")


def instance(host: str, *, states: str = "", jobs: tuple[Job, ...] = ()) -> QueueInstance:
    return QueueInstance(
        queue="all.q", host=host, used=len(jobs), total=1, arch="lx-amd64", states=states, load=0.5, jobs=jobs
    )


def status_of(
    *instances: QueueInstance, workers: tuple[Worker, ...] = (), pending: tuple[Job, ...] = ()
) -> ClusterStatus:
    reading = Reading(
        time=datetime(2026, 11, 25, 3, 12, 11),
        grid=Grid(instances=instances, pending=pending),
        workers={worker.name: worker for worker in workers},
    )
    return compare(EXPECTED, reading)


HOSTS = (instance("local01"), instance("local02"))
WORKER = Worker(name="workernode0", is_connected=True)
LOST = Worker(name="workernode0", is_connected=False)


def worker_of(status: ClusterStatus) -> HostStatus:
    [found] = [host for host in status.hosts if host.kind == "worker"]
    return found


def test_hosts_are_listed_as_described_then_workers_then_others() -> None:
    instances = [instance(name) for name in ("stranger", "workernode1", "local01", "workernode0", "local02", "alien")]

    found = status_of(*instances)

    names = [(host.name, host.kind) for host in found.hosts]
    assert names == [
        *[("local02", "host"), ("local01", "host")],
        *[("workernode0", "worker"), ("workernode1", "worker")],
        *[("alien", "other"), ("stranger", "other")],
    ]


def test_a_host_that_is_described_and_not_in_the_queue_is_absent_and_that_is_not_well() -> None:
    found = status_of(instance("local01"))

    assert [(host.name, host.presence) for host in found.hosts] == [("local02", "absent"), ("local01", "in the queue")]
    assert not found.is_well


def test_a_worker_that_is_nowhere_is_not_missed() -> None:
    assert [host.name for host in status_of(*HOSTS, workers=(LOST,)).hosts] == ["local02", "local01"]


@pytest.mark.parametrize(
    ("instances", "worker", "presence", "is_well"),
    [
        ((), WORKER, "joining", True),
        ((instance("workernode0"),), WORKER, "in the queue", True),
        ((instance("workernode0", states="au"),), WORKER, "in the queue", False),
        ((instance("workernode0"),), LOST, "not on the VPN", False),
        ((instance("workernode0", states="au"),), LOST, "not on the VPN", False),
    ],
)
def test_a_worker_is_on_the_vpn_before_it_is_in_the_queue_and_leaves_that_first(
    instances: tuple[QueueInstance, ...], worker: Worker, presence: str, is_well: bool
) -> None:
    found = status_of(*HOSTS, *instances, workers=(worker,))

    assert (worker_of(found).presence, found.is_well) == (presence, is_well)


@pytest.mark.parametrize(
    ("states", "worker", "state"),
    [
        ("", WORKER, "ok"),
        ("d", WORKER, "disabled (d)"),
        ("", LOST, "not on the VPN"),
        ("au", LOST, "not on the VPN (au)"),
    ],
)
def test_the_state_of_an_instance_says_also_that_its_worker_has_left(states: str, worker: Worker, state: str) -> None:
    host = worker_of(status_of(instance("workernode0", states=states), workers=(worker,)))

    assert host.state_of(host.instances[0]) == state


def test_a_parallel_job_runs_once() -> None:
    assert status_of(instance("local01", jobs=(JOB,)), instance("local02", jobs=(JOB,))).running == 1


def test_the_json_is_what_the_documentation_says() -> None:
    worker = Worker(
        name="workernode0",
        is_connected=True,
        public_address=IPv4Address("75.101.155.97"),
        instance_id="i-0123456789abcdef0",
    )
    waiting = Job(number=8, name="sleep", owner="clouduser", state="qw", slots=2, since="")

    found = to_json(status_of(instance("workernode0", jobs=(JOB,)), workers=(worker,), pending=(waiting,)))

    absent = {"kind": "host", "well": False, "presence": "absent", "vpn": None, "queues": []}
    assert found == {
        "cluster": "squirrel",
        "server": "oneserver",
        "time": "2026-11-25T03:12:11",
        "well": False,
        "hosts": [
            {"name": "local02", **absent},
            {"name": "local01", **absent},
            {
                "name": "workernode0",
                "kind": "worker",
                "well": True,
                "presence": "in the queue",
                "vpn": {
                    "connected": True,
                    "address": "10.1.1.100",
                    "public_address": "75.101.155.97",
                    "instance_id": "i-0123456789abcdef0",
                },
                "queues": [
                    {
                        "queue": "all.q",
                        "slots_used": 1,
                        "slots_total": 1,
                        "load": 0.5,
                        "states": "",
                        "state": "ok",
                        "well": True,
                        "jobs": [
                            {
                                "id": 7,
                                "tasks": "4",
                                "name": "sleep",
                                "owner": "clouduser",
                                "state": "r",
                                "slots": 1,
                                "since": "2026-11-25T03:12:11",
                            }
                        ],
                    }
                ],
            },
        ],
        "pending": [
            {
                "id": 8,
                "tasks": None,
                "name": "sleep",
                "owner": "clouduser",
                "state": "qw",
                "slots": 2,
                "since": None,
            }
        ],
    }
