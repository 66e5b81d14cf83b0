import pytest

from imagebuilder.errors import RemoteError
from imagebuilder.operate.grid import NEVER_HEARD, Grid, Job, QueueInstance, parse_grid
from tests.machines import TESTS

CASES = TESTS / "cases/qstat"
EMPTY = "<job_info><queue_info></queue_info><job_info></job_info></job_info>"
INSTANCE = (
    "<name>all.q@local01</name><slots_used>0</slots_used><slots_total>1</slots_total>"
    "<load_avg>0.5</load_avg><arch>lx-amd64</arch>"
)
JOB = "<JB_job_number>7</JB_job_number><JB_name>sleep</JB_name><state>r</state><slots>1</slots>"


def grid_of(instance: str = INSTANCE, job: str = "", pending: str = "") -> Grid:
    """The grid in what qstat prints for one queue instance, a job on it, and one that waits."""
    running = f"<job_list state='running'>{job}</job_list>" if job else ""
    waiting = f"<job_list state='pending'>{pending}</job_list>" if pending else ""
    return parse_grid(
        f"<?xml version='1.0'?>\n<job_info xmlns:xsd='http://x'>"
        f"<queue_info><Queue-List>{instance}{running}</Queue-List></queue_info>"
        f"<job_info>{waiting}</job_info></job_info>\n"
    )


def instance_of(**differences: object) -> QueueInstance:
    values = {"queue": "all.q", "host": "local01", "used": 0, "total": 1, "arch": "lx-amd64", "states": "", "load": 0.5}
    return QueueInstance(**{**values, **differences})  # type: ignore[arg-type]


def trouble_of(text: str) -> str:
    with pytest.raises(RemoteError) as raised:
        parse_grid(text)
    return str(raised.value)


# What there is


def test_an_instance_without_jobs() -> None:
    assert grid_of() == Grid(instances=(instance_of(),), pending=())


def test_a_grid_without_queues_is_empty() -> None:
    assert parse_grid(EMPTY) == Grid(instances=(), pending=())


def test_a_host_that_has_never_reported_is_not_well_though_it_has_no_state() -> None:
    [found] = grid_of("<name>all.q@a</name><slots_used>0</slots_used><slots_total>1</slots_total>").instances

    assert (found.arch, found.load, found.is_well, found.state) == (NEVER_HEARD, None, False, "not seen yet")


@pytest.mark.parametrize("unknown", ["NA", "-NA-", "", "nan", "inf"])
def test_a_load_that_is_none_is_unknown(unknown: str) -> None:
    [found] = grid_of(INSTANCE.replace("0.5", unknown)).instances

    assert found.load is None


@pytest.mark.parametrize(
    ("states", "words"),
    [
        ("", "ok"),
        ("au", "unreachable (au)"),
        ("a", "load alarm (a)"),
        ("E", "error (E)"),
        ("dE", "disabled, error (dE)"),
        ("s", "suspended (s)"),
        ("x", "(x)"),
    ],
)
def test_states_are_said_in_words(states: str, words: str) -> None:
    instance = instance_of(states=states)

    assert (instance.state, instance.is_well) == (words, states == "")


def test_a_task_of_an_array_has_its_number() -> None:
    [running] = grid_of(job=f"{JOB}<tasks>4</tasks>").instances[0].jobs
    [waiting] = grid_of(pending=f"{JOB}<tasks>5-10:1</tasks>").pending

    assert (running.label, waiting.label) == ("7.4", "7.5-10:1")


def test_a_job_that_waits_has_the_time_at_which_it_was_submitted() -> None:
    time = "2026-11-25T03:12:11"

    [waiting] = grid_of(pending=f"{JOB}<JB_submission_time>{time}</JB_submission_time>").pending

    assert waiting == Job(number=7, name="sleep", owner="", state="r", slots=1, since=time)


# What Grid Engine 8.1.9 of Debian 12 printed in a rehearsal


def real_grid(name: str) -> Grid:
    return parse_grid((CASES / f"{name}.xml").read_text(encoding="utf-8"))


def test_jobs_are_on_their_instances_and_others_wait() -> None:
    grid = real_grid("busy")

    first, second = grid.instances
    assert first == QueueInstance(
        queue="all.q",
        host="local01",
        used=1,
        total=1,
        arch="lx-amd64",
        states="",
        load=0.41455,
        jobs=(Job(number=6, name="test_1.sh", owner="clouduser", state="r", slots=1, since="2026-11-29T17:49:20"),),
    )
    assert [(job.label, job.name) for job in second.jobs] == [("7.1", 'R&D-<b>"x"')]
    assert [(job.label, job.state, job.slots) for job in grid.pending] == [
        *[("14", "qw", 2), ("5", "Eqw", 1), ("7.2-4:1", "qw", 1)],
        *[("11", "qw", 1), ("15", "qw", 1), ("8", "hqw", 1)],
    ]


def test_an_instance_that_somebody_disabled_and_one_that_never_reported() -> None:
    disabled, well, silent = real_grid("disabled").instances

    assert (disabled.state, disabled.is_well, disabled.load) == ("disabled (d)", False, 0.31836)
    assert (well.state, well.is_well) == ("ok", True)
    assert (silent.state, silent.is_well, silent.load) == ("not seen yet (u)", False, None)


def test_an_instance_whose_host_is_silent_and_keeps_its_job() -> None:
    silent, well = real_grid("unreachable").instances

    assert (silent.state, silent.load, len(silent.jobs)) == ("unreachable (u)", None, 1)
    assert well.is_well


# What others choose


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("R&amp;D &lt;b&gt;", "R&D <b>"),
        ("R&amp;D-%lt;b&gt;&quot;x&quot;", 'R&D-<b>"x"'),
        ("[red]x[/red]", "[red]x[/red]"),
        ("\x1b[2J", "\ufffd[2J"),
        ("a\x00b", "a\ufffdb"),
        ("a&#x85;b&#x202e;c", "a\ufffdb\ufffdc"),
        ("a\nb", "a\ufffdb"),
        ("naïve", "naïve"),
        ("\ud800", "\ufffd"),
    ],
)
def test_a_job_may_be_called_anything_and_gives_no_orders_to_a_terminal(name: str, shown: str) -> None:
    [job] = grid_of(job=JOB.replace("sleep", name)).instances[0].jobs

    assert job.name == shown


# What is no answer of Grid Engine


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("", "no element found: line 1, column 0", id="nothing"),
        pytest.param("error: commlib error", "syntax error: line 1, column 0", id="an error message"),
        pytest.param(EMPTY[:-3], "unclosed token: line 1, column 56", id="cut off"),
        pytest.param("<job_info/>", "its root is 'job_info', without queues", id="without queues"),
        pytest.param("<\u0435\u0432/>", "its root is '\u0435\u0432', without queues", id="another document"),
        pytest.param(
            '<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><job_info>&b;</job_info>',
            "it has a declaration",
            id="entities",
        ),
        pytest.param("<job_info>&a;</job_info>", "undefined entity: line 1, column 10", id="an unknown entity"),
    ],
)
def test_what_is_not_qstat_s_is_refused(text: str, why: str) -> None:
    assert trouble_of(text) == (
        f"qstat -f -xml: what it prints is not what Grid Engine's qstat prints: {why}\n"
        "  fix: run it on the server, and see what it prints"
    )


@pytest.mark.parametrize(
    ("instance", "why"),
    [
        (INSTANCE.replace("<slots_total>1</slots_total>", ""), "a Queue-List has no slots_total"),
        (INSTANCE.replace("<name>all.q@local01</name>", ""), "a Queue-List has no name"),
        (INSTANCE.replace("<slots_used>0", "<slots_used>-1"), "slots_used is '-1', which is no number"),
        (INSTANCE.replace("<slots_used>0", "<slots_used>\u0661"), "slots_used is '\u0661', which is no number"),
        (INSTANCE.replace("<slots_used>0", f"<slots_used>{'9' * 5000}"), f"slots_used is '{'9' * 85}\n"),
        (INSTANCE.replace("0.5", "busy"), "load_avg is 'busy', which is no number"),
        (f"{INSTANCE}<job_list><state>r</state></job_list>", "a job_list has no JB_job_number"),
    ],
)
def test_an_element_that_is_missing_or_no_number_is_named(instance: str, why: str) -> None:
    with pytest.raises(RemoteError) as raised:
        grid_of(instance)

    assert why in str(raised.value)
