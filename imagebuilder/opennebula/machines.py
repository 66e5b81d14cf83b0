"""The virtual machines that oned runs, and how `onevm list` and `onevm show` name what it says of them.

The states are those of include/VirtualMachine.h, their short names those of `onevm`
(src/oca/java/src/org/opennebula/client/vm/VirtualMachine.java has them in order).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from imagebuilder.opennebula.template import Pair, Template, Vector

_ACTIVE = 3
_STATES = (
    *("INIT", "PENDING", "HOLD", "ACTIVE", "STOPPED", "SUSPENDED"),
    *("DONE", "FAILED", "POWEROFF", "UNDEPLOYED", "CLONING", "CLONING_FAILURE"),
)
_SHORT_STATES = ("init", "pend", "hold", "actv", "stop", "susp", "done", "fail", "poff", "unde", "clon", "fail")
_LCM_STATES = tuple(
    """LCM_INIT PROLOG BOOT RUNNING MIGRATE SAVE_STOP SAVE_SUSPEND SAVE_MIGRATE PROLOG_MIGRATE PROLOG_RESUME EPILOG_STOP
    EPILOG SHUTDOWN CANCEL FAILURE CLEANUP_RESUBMIT UNKNOWN HOTPLUG SHUTDOWN_POWEROFF BOOT_UNKNOWN BOOT_POWEROFF
    BOOT_SUSPENDED BOOT_STOPPED CLEANUP_DELETE HOTPLUG_SNAPSHOT HOTPLUG_NIC HOTPLUG_SAVEAS HOTPLUG_SAVEAS_POWEROFF
    HOTPLUG_SAVEAS_SUSPENDED SHUTDOWN_UNDEPLOY EPILOG_UNDEPLOY PROLOG_UNDEPLOY BOOT_UNDEPLOY HOTPLUG_PROLOG_POWEROFF
    HOTPLUG_EPILOG_POWEROFF BOOT_MIGRATE BOOT_FAILURE BOOT_MIGRATE_FAILURE PROLOG_MIGRATE_FAILURE PROLOG_FAILURE
    EPILOG_FAILURE EPILOG_STOP_FAILURE EPILOG_UNDEPLOY_FAILURE PROLOG_MIGRATE_POWEROFF PROLOG_MIGRATE_POWEROFF_FAILURE
    PROLOG_MIGRATE_SUSPEND PROLOG_MIGRATE_SUSPEND_FAILURE BOOT_UNDEPLOY_FAILURE BOOT_STOPPED_FAILURE
    PROLOG_RESUME_FAILURE PROLOG_UNDEPLOY_FAILURE DISK_SNAPSHOT_POWEROFF DISK_SNAPSHOT_REVERT_POWEROFF
    DISK_SNAPSHOT_DELETE_POWEROFF DISK_SNAPSHOT_SUSPENDED DISK_SNAPSHOT_REVERT_SUSPENDED
    DISK_SNAPSHOT_DELETE_SUSPENDED DISK_SNAPSHOT DISK_SNAPSHOT_REVERT DISK_SNAPSHOT_DELETE PROLOG_MIGRATE_UNKNOWN
    PROLOG_MIGRATE_UNKNOWN_FAILURE DISK_RESIZE DISK_RESIZE_POWEROFF DISK_RESIZE_UNDEPLOYED HOTPLUG_NIC_POWEROFF
    HOTPLUG_RESIZE HOTPLUG_SAVEAS_UNDEPLOYED HOTPLUG_SAVEAS_STOPPED BACKUP BACKUP_POWEROFF RESTORE""".split()  # noqa: SIM905 - a table to read
)
# By the first word of the state's name, but for those that say it otherwise.
_SHORT_LCM_STATES = {
    "LCM": "init",
    "PROLOG": "prol",
    "BOOT": "boot",
    "RUNNING": "runn",
    "MIGRATE": "migr",
    "SAVE": "save",
    "EPILOG": "epil",
    "SHUTDOWN": "shut",
    "CANCEL": "shut",
    "FAILURE": "fail",
    "CLEANUP": "clea",
    "UNKNOWN": "unkn",
    "HOTPLUG": "hotp",
    "DISK": "snap",
    "BACKUP": "back",
    "RESTORE": "rest",
}
_SHORT_LCM_EXCEPTIONS = {
    "HOTPLUG_SNAPSHOT": "snap",
    **dict.fromkeys((one for one in _LCM_STATES if one.startswith("DISK_RESIZE")), "drsz"),
    **dict.fromkeys((one for one in _LCM_STATES if one.startswith("PROLOG_MIGRATE")), "migr"),
}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a machine uses: hundredths of a CPU, KiB of memory, bytes sent and received. None: not measured."""

    cpu: str | None
    memory_kib: int | None
    sent_bytes: int | None
    received_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A virtual machine; times are seconds since 1970, 0 for one that is not there yet."""

    id: int
    uid: int
    user: str
    name: str
    state: int
    lcm_state: int
    deploy_id: str
    host: str
    last_poll: int
    begun_at: int
    ended_at: int
    is_rescheduled: bool
    measured: Measured
    template: Template
    user_template: Template

    @property
    def state_name(self) -> str:
        """The name of the state, such as PENDING."""
        return _name_of(_STATES, self.state)

    @property
    def lcm_state_name(self) -> str:
        """The name of the state of an active machine, such as RUNNING."""
        return _name_of(_LCM_STATES, self.lcm_state)

    @property
    def short_state(self) -> str:
        """What `onevm list` shows as STAT: pend, boot, runn and the like."""
        if self.state != _ACTIVE:
            return _name_of(_SHORT_STATES, self.state)
        name = self.lcm_state_name
        if "FAILURE" in name:
            return "fail"
        return _SHORT_LCM_EXCEPTIONS.get(name) or _SHORT_LCM_STATES.get(name.partition("_")[0], name)

    @property
    def memory_mib(self) -> str:
        """The memory that it was given, in MiB, as its template says it."""
        return self.template.get("MEMORY") or ""


def list_row(machine: Machine, now: int) -> tuple[str, ...]:
    """The columns of `onevm list`: ID NAME STAT CPU MEM HOSTNAME TIME. CPU and memory are what it was given."""
    memory = f"{machine.memory_mib}M" if machine.memory_mib else ""
    running_s = max(0, (machine.ended_at or now) - machine.begun_at)
    times = f"{running_s // 86400}d {running_s // 3600 % 24:02}h{running_s // 60 % 60:02}"
    cpu = machine.template.get("CPU") or ""
    return (str(machine.id), machine.name, machine.short_state, cpu, memory, machine.host, times)


def describe(machine: Machine) -> Mapping[str, object]:
    """What `onevm show` of 2008 lists, by its names, as far as oned still has it.

    It has no AID (the account) and no PRIORITY any more; RESCHEDULE is its RESCHED. MEMORY (KiB), CPU (hundredths), NET
    TX and NET RX (bytes) are what was measured, None before the first time.
    """
    measured = machine.measured
    return {
        "VID": machine.id,
        "UID": machine.uid,
        "USER": machine.user,
        "NAME": machine.name,
        "HOSTNAME": machine.host or None,
        "STATE": machine.state_name,
        "LCM_STATE": machine.lcm_state_name,
        "DEPLOY_ID": machine.deploy_id or None,
        "MEMORY": measured.memory_kib,
        "CPU": measured.cpu,
        "RESCHEDULE": machine.is_rescheduled,
        "LAST POLL": machine.last_poll or None,
        "START TIME": machine.begun_at,
        "STOP TIME": machine.ended_at or None,
        "NET TX": measured.sent_bytes,
        "NET RX": measured.received_bytes,
        "TEMPLATE": as_values(machine.template),
        "USER_TEMPLATE": as_values(machine.user_template),
    }


def show_lines(machine: Machine) -> Iterator[str]:
    """The description as `onevm show` prints it: a field a line, then the template."""
    for name, value in describe(machine).items():
        if name in {"START TIME", "STOP TIME", "LAST POLL"} and isinstance(value, int):
            yield f"{name:12}: {datetime.fromtimestamp(value, UTC):%m/%d %H:%M:%S}"
        elif not isinstance(value, dict):
            yield f"{name:12}: {'-' if value is None else _yes_or_no(value)}"
    for title, template in (("TEMPLATE", machine.template), ("USER TEMPLATE", machine.user_template)):
        yield ""
        yield title
        yield from _template_lines(template)


def as_values(template: Template) -> dict[str, object]:
    """A template as plain values: texts and objects, a list of them for several of a name."""
    values: dict[str, list[object]] = {}
    for one in template.attributes:
        match one:
            case Pair():
                values.setdefault(one.key, []).append(one.value.text)
            case Vector():
                values.setdefault(one.key, []).append({pair.key: pair.value.text for pair in one.pairs})
    return {key: found if len(found) > 1 else found[0] for key, found in values.items()}


def _template_lines(template: Template) -> Iterator[str]:
    for one in template.attributes:
        match one:
            case Pair():
                yield f"{one.key}={one.value.text}"
            case Vector():
                yield f"{one.key}=["
                yield from (f"  {pair.key}={pair.value.text}," for pair in one.pairs[:-1])
                yield from (f"  {pair.key}={pair.value.text} ]" for pair in one.pairs[-1:])


def _yes_or_no(value: object) -> object:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value


def _name_of(names: tuple[str, ...], number: int) -> str:
    return names[number] if 0 <= number < len(names) else str(number)
