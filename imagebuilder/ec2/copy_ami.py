"""Copies an AMI to other regions: all of the copies, or none."""

import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

from imagebuilder.ec2.account import Account
from imagebuilder.ec2.ami import RUN, Ami
from imagebuilder.ec2.images import Encryption, copy_ami, find_amis, wait_for_ami
from imagebuilder.ec2.undo import undone_on_failure

_TIMEOUT_S = 3600.0  # between regions a copy takes minutes; an hour, if there is much to copy


def copy_everywhere(
    ami: Ami, targets: Sequence[Account], encryption: Encryption | None, *, on_step: Callable[[str], None]
) -> tuple[Ami, ...]:
    """Copies of an AMI in the regions of `targets`, all of them available.

    Raises RemoteError if one fails; the others are removed then.
    """
    with ExitStack() as stack:
        undos = [stack.enter_context(undone_on_failure(target)) for target in targets]
        ids = []
        for target, undo in zip(targets, undos, strict=True):
            on_step(f"copy {ami.id} to {target.region}")
            run = str(uuid.uuid4())
            undo.may_make(partial(_find_copy, run=run))
            ids.append(copy_ami(target, ami, run=run, encryption=encryption))
            undo.made(ids[-1])
        copies = []
        for target, copy_id in zip(targets, ids, strict=True):
            on_step(f"wait for {copy_id} in {target.region}")
            copies.append(wait_for_ami(target, copy_id, timeout_s=_TIMEOUT_S))
        for undo in undos:
            undo.keep()
    return tuple(copies)


def _find_copy(account: Account, *, run: str) -> list[str]:
    return [ami.id for ami in find_amis(account, filters={f"tag:{RUN}": [run]}) if ami.tags.get(RUN) == run]
