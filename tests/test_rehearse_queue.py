from imagebuilder.operate.grid import QueueInstance
from imagebuilder.rehearse.queue import queue_command, queue_instances
from imagebuilder.rehearse.running import is_well_on

# What qstat of Grid Engine 8.1.9 prints, with the blanks at its lines' ends.
RULE = "---------------------------------------------------------------------------------\n"
HEADER = "queuename                      qtype resv/used/tot. load_avg arch          states\n" + RULE
LOCAL01 = "all.q@local01                  BIP   0/0/1          0.52     lx-amd64      \n"
BUSY = (
    "all.q@local01                  BIP   0/2/4          1.87     lx-amd64      \n"
    "      3 0.55500 jobs-1     clouduser    r     11/25/2026 03:12:11     1        \n"
    "      4 0.55500 jobs-2     clouduser    t     11/25/2026 03:12:11     1        \n"
)
WORKER = "all.q@workernode0              BIP   0/0/1          1.37     lx-amd64      \n"
VANISHED = "all.q@workernode0              BIP   0/1/1          -NA-     lx-amd64      au\n"
NEVER_SEEN = "all.q@workernode1              BIP   0/0/1          -NA-     -NA-          au\n"
NOT_YET_IN_ALARM = "all.q@workernode1              BIP   0/0/1          -NA-     -NA-          \n"
DISABLED = "all.q@workernode1              BIP   0/0/1          0.02     lx-amd64      dE\n"
OTHER_QUEUE = "night.q@local01                BI    1/0/8          0.52     lx-amd64      \n"
PENDING = (
    "\n############################################################################\n"
    " - PENDING JOBS - PENDING JOBS - PENDING JOBS - PENDING JOBS - PENDING JOBS\n"
    "############################################################################\n"
    "      5 0.00000 me@home    clouduser    qw    11/25/2026 03:12:12     1        \n"
)


def instances_in(text: str) -> list[QueueInstance]:
    return list(queue_instances(text))


def test_an_instance_that_is_well_has_no_states() -> None:
    [found] = instances_in(HEADER + LOCAL01)

    assert found == QueueInstance(queue="all.q", host="local01", used=0, total=1, arch="lx-amd64", states="")
    assert found.is_well


def test_slots_are_those_of_the_queue_and_lines_of_jobs_are_none() -> None:
    found = instances_in(HEADER + BUSY + RULE + WORKER + PENDING)

    assert [(one.host, one.used, one.total) for one in found] == [("local01", 2, 4), ("workernode0", 0, 1)]


def test_a_host_that_was_heard_of_and_is_silent_is_not_well() -> None:
    [found] = instances_in(HEADER + VANISHED)

    assert (found.states, found.is_well) == ("au", False)


def test_a_host_that_was_never_heard_of_is_not_well_even_without_an_alarm() -> None:
    found = instances_in(HEADER + NEVER_SEEN + RULE + NOT_YET_IN_ALARM)

    assert [(one.arch, one.states, one.is_well) for one in found] == [("-NA-", "au", False), ("-NA-", "", False)]


def test_a_disabled_instance_and_one_with_an_error_are_not_well() -> None:
    [found] = instances_in(HEADER + DISABLED)

    assert (found.states, found.is_well) == ("dE", False)


def test_each_queue_has_its_own_instance_on_a_host() -> None:
    found = instances_in(HEADER + LOCAL01 + RULE + OTHER_QUEUE)

    assert [(one.queue, one.host, one.total) for one in found] == [("all.q", "local01", 1), ("night.q", "local01", 8)]


def test_qstat_is_told_not_to_cut_long_names_off() -> None:
    assert queue_command("clouduser") == ("env", "SGE_LONG_QNAMES=-1", "qstat", "-f", "-u", "clouduser")


def test_a_name_that_fills_its_column_is_whole() -> None:
    line = "all.q@node-with-a-rather-long-name BIP   0/0/1          0.52     lx-amd64      \n"

    [found] = instances_in(HEADER + line)

    assert found.host == "node-with-a-rather-long-name"


def test_an_error_message_has_no_instances() -> None:
    text = 'error: commlib error: got select error (Connection refused)\nunable to contact qmaster on "oneserver"\n'

    assert instances_in(text) == []


def test_the_queue_is_well_on_just_its_hosts_in_any_order() -> None:
    found = instances_in(HEADER + LOCAL01 + RULE + WORKER)

    assert is_well_on(found, {"workernode0", "local01"})


def test_a_queue_on_too_few_or_too_many_hosts_is_not_well() -> None:
    found = instances_in(HEADER + LOCAL01 + RULE + WORKER)

    assert not is_well_on(found, {"local01"})
    assert not is_well_on(found, {"local01", "workernode0", "workernode1"})


def test_one_host_that_is_silent_is_enough() -> None:
    found = instances_in(HEADER + LOCAL01 + RULE + VANISHED)

    assert not is_well_on(found, {"local01", "workernode0"})


def test_a_queue_without_instances_is_well_nowhere() -> None:
    assert not is_well_on(instances_in(HEADER), {"local01"})
