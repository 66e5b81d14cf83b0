"""Reads what Grid Engine's `qstat -f` prints. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

# queuename qtype resv/used/tot. load_avg arch states; the last is blank for an instance that is well, qstat(1).
_INSTANCE = re.compile(
    r"^(?P<queue>[^\s@]+)@(?P<host>\S+)\s+\S+\s+\d+/(?P<used>\d+)/(?P<total>\d+)\s+(?P<load>\S+)\s+(?P<arch>\S+)"
    r"[ \t]*(?P<states>[A-Za-z]*)[ \t]*$",
    re.MULTILINE,
)


@dataclass(frozen=True, kw_only=True)
class QueueInstance:
    """A queue on one host: slots in use and in all, and states such as `au`, load unknown and in alarm."""

    queue: str
    host: str
    used: int
    total: int
    arch: str
    states: str

    @property
    def is_well(self) -> bool:
        """Whether it takes jobs: the host reports, and nothing is wrong or suspended."""
        return not self.states and self.arch != "-NA-"


def queue_command(user: str = "*") -> tuple[str, ...]:
    """What to run to list each queue instance, with the jobs of `user`, or of everybody.

    Without the variable qstat(1) cuts the names of instances off after 30 characters.
    """
    return ("env", "SGE_LONG_QNAMES=-1", "qstat", "-f", "-u", user)


def queue_instances(text: str) -> Iterator[QueueInstance]:
    """The queue instances in the output of `qstat -f`."""
    for found in _INSTANCE.finditer(text):
        yield QueueInstance(
            queue=found["queue"],
            host=found["host"],
            used=int(found["used"]),
            total=int(found["total"]),
            arch=found["arch"],
            states=found["states"],
        )
