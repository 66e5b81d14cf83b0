"""Reads what Grid Engine's `qstat -f -xml` prints. Pure.

The elements are those of Grid Engine 8.1.9 (qstat.xsd beside its sources, qstat_xml.c for what it leaves out): each
`Queue-List` is a queue on one host, with the jobs that run there; the inner `job_info` has those that wait.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree.ElementTree import Element, ParseError, fromstring

from imagebuilder.errors import RemoteError

NEVER_HEARD = "-NA-"
"""What qstat prints for the architecture of a host that has never reported."""

# The letters of qstat(1), section "Full Format".
_STATES = {
    "u": "unreachable",
    "a": "load alarm",
    "A": "suspend alarm",
    "E": "error",
    "d": "disabled",
    "D": "disabled by calendar",
    "s": "suspended",
    "C": "suspended by calendar",
    "S": "suspended by another queue",
    "P": "preempted",
    "c": "configuration ambiguous",
    "o": "orphaned",
}

# What 8.1.9 writes for `<` instead of `&lt;`.
_LESS_THAN = "%lt;"

# What XML 1.0 has no place for (section 2.2). qstat writes job names as they are, and a job may be called anything.
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_REPLACEMENT = "\ufffd"
_LONGEST_REASON = 100


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job, or a task of an array, in one place: on a queue instance, or waiting."""

    number: int
    name: str
    owner: str
    state: str
    """Letters of qstat(1): `r` runs, `qw` waits, `Eqw` waits with an error."""
    slots: int
    since: str
    """When it was started, or submitted if it waits: the server's local time, ISO 8601; empty if qstat does not say."""
    tasks: str = ""
    """Of an array: the task that runs, or those that wait, as `4` or `5-10:1`."""

    @property
    def label(self) -> str:
        """Its number, with the tasks of an array: `12`, `12.4`."""
        return f"{self.number}.{self.tasks}" if self.tasks else str(self.number)


@dataclass(frozen=True, kw_only=True)
class QueueInstance:
    """A queue on one host: slots in use and in all, and states such as `au`, load unknown and in alarm."""

    queue: str
    host: str
    used: int
    total: int
    arch: str
    states: str
    load: float | None = None
    """The host's load average; None if it does not report, or is not read."""
    jobs: tuple[Job, ...] = ()
    """The jobs on it, if they are read."""

    @property
    def is_well(self) -> bool:
        """Whether it takes jobs: the host reports, and nothing is wrong or suspended."""
        return not self.states and self.arch != NEVER_HEARD

    @property
    def state(self) -> str:
        """Its state in words, with qstat's letters behind: `ok`, `unreachable (au)`, `disabled, error (dE)`."""
        if not self.states:
            return "ok" if self.is_well else "not seen yet"
        if "u" in self.states and self.arch == NEVER_HEARD:
            words = ["not seen yet"]
        else:
            # A load that is unknown is over every threshold: `u` comes with `a`.
            letters = [letter for letter in self.states if letter != "a" or "u" not in self.states]
            words = [_STATES[letter] for letter in letters if letter in _STATES]
        return f"{', '.join(words)} ({self.states})".strip()


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The queue instances, in qstat's order, and the jobs that wait."""

    instances: tuple[QueueInstance, ...]
    pending: tuple[Job, ...]


def parse_grid(text: str) -> Grid:
    """What `qstat -f -xml` says. Raises RemoteError if it is not what Grid Engine prints."""
    if "<!" in text:  # never in qstat's output; with a document type one could have the parser expand entities
        raise _malformed("it has a declaration")
    try:
        root = fromstring(_NOT_XML.sub(_REPLACEMENT, text).strip())  # noqa: S314 - see above
    except ParseError as error:
        raise _malformed(str(error)) from error
    if root.tag != "job_info" or root.find("queue_info") is None:
        raise _malformed(f"its root is '{printable(root.tag)}', without queues")
    return Grid(instances=tuple(_instances(root)), pending=tuple(map(_job, root.iterfind("job_info/job_list"))))


def _instances(root: Element) -> Iterator[QueueInstance]:
    for element in root.iterfind("queue_info/Queue-List"):
        queue, _, host = _text(element, "name").partition("@")
        yield QueueInstance(
            queue=queue,
            host=host,
            used=_count(element, "slots_used"),
            total=_count(element, "slots_total"),
            arch=_known(element, "arch") or NEVER_HEARD,
            states=_text(element, "state", default=""),
            load=_load(element),
            jobs=tuple(map(_job, element.iterfind("job_list"))),
        )


def _job(element: Element) -> Job:
    started = _text(element, "JAT_start_time", default="") or _text(element, "JB_submission_time", default="")
    return Job(
        number=_count(element, "JB_job_number"),
        name=_text(element, "JB_name", default="").replace(_LESS_THAN, "<"),
        owner=_text(element, "JB_owner", default=""),
        state=_text(element, "state"),
        slots=_count(element, "slots"),
        since=started,
        tasks=_text(element, "tasks", default=""),
    )


def _text(element: Element, name: str, *, default: str | None = None) -> str:
    text = element.findtext(name, default)
    if text is None:
        raise _malformed(f"a {element.tag} has no {name}")
    return printable(text)


def _known(element: Element, name: str) -> str:
    """The text of `name`, empty if it is left out or qstat does not know."""
    text = _text(element, name, default="")
    return "" if text in {NEVER_HEARD, "NA"} else text


def _count(element: Element, name: str) -> int:
    text = _text(element, name)
    if not re.fullmatch(r"[0-9]{1,18}", text, re.ASCII):
        raise _malformed(f"{name} is '{text}', which is no number")
    return int(text)


def _load(element: Element) -> float | None:
    text = _known(element, "load_avg")
    try:
        load = float(text) if text else None
    except ValueError as error:
        raise _malformed(f"load_avg is '{text}', which is no number") from error
    return load if load is None or math.isfinite(load) else None


def printable(text: str) -> str:
    """The text without blanks at its ends, and without what a terminal would obey instead of show."""
    return "".join(character if character.isprintable() else _REPLACEMENT for character in text.strip())


def _malformed(why: str) -> RemoteError:
    what = f"what it prints is not what Grid Engine's qstat prints: {why[:_LONGEST_REASON]}"
    return RemoteError(what, where="qstat -f -xml", fix="run it on the server, and see what it prints")
