"""What a rule is that an image must keep before it becomes an AMI."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from imagebuilder.ec2.evidence import Evidence


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule: `troubles` gives where it is broken, and how; nothing if it is kept."""

    name: str
    proves: str
    """What is so if the rule is kept, for whoever reads the report."""
    fix: str
    troubles: Callable[[Evidence], Iterable[tuple[str, str]]]
