"""Reads what Grid Engine's `qstat -f` prints for people, which is what a report shows. Pure."""

import re
from collections.abc import Iterator

from imagebuilder.operate.grid import QueueInstance

# queuename qtype resv/used/tot. load_avg arch states; the last is blank for an instance that is well, qstat(1).
_INSTANCE = re.compile(
    r"^(?P<queue>[^\s@]+)@(?P<host>\S+)\s+\S+\s+\d+/(?P<used>\d+)/(?P<total>\d+)\s+(?P<load>\S+)\s+(?P<arch>\S+)"
    r"[ \t]*(?P<states>[A-Za-z]*)[ \t]*$",
    re.MULTILINE,
)


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
