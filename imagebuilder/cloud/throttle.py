"""Counts calls against rates: token buckets, as AWS's own are."""

import threading
import time
from dataclasses import dataclass


@dataclass(kw_only=True)
class _Bucket:
    tokens: float
    filled_at: float


class Throttle:
    """The buckets of all limits, by name."""

    def __init__(self) -> None:
        self._buckets: dict[str, _Bucket] = {}
        self._lock = threading.Lock()

    def allows(self, name: str, *, a_second: float, at_once: float) -> bool:
        """Whether one more call is within the limit called `name`; if so it is counted."""
        now = time.monotonic()
        with self._lock:
            bucket = self._buckets.setdefault(name, _Bucket(tokens=at_once, filled_at=now))
            bucket.tokens = min(at_once, bucket.tokens + (now - bucket.filled_at) * a_second)
            bucket.filled_at = now
            if bucket.tokens < 1:
                return False
            bucket.tokens -= 1
            return True
