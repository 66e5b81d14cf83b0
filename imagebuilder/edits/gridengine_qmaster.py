"""The batch system's master."""

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import ClassVar

from imagebuilder.edits.edit import Edit, Machine
from imagebuilder.plan.changes import Intent, MakeDirectory, WriteFile
from imagebuilder.plan.check import Check, Instance, Prints, has_rows
from imagebuilder.recipe.cluster import GridEngine

_SPOOL = PurePosixPath("/var/spool/gridengine/qmaster")
_ADMINISTRATOR = "sgeadmin"

# Of all resources that queue_conf(5) can limit, softly and hard.
_LIMITS = ("rt", "cpu", "fsize", "data", "stack", "core", "rss", "vmem")


class GridengineQmaster(Edit):
    """Runs Grid Engine's qmaster, with the cell, the queue, the host group and every host of the cluster declared.

    The configuration is a set of text files (classic spooling), so nothing has to run to make it. A worker that
    appears on the VPN becomes an execution host, and ceases to be one when it has gone.
    """

    overlay: ClassVar[str] = "gridengine-qmaster"
    packages: ClassVar[tuple[str, ...]] = ("gridengine-master", "gridengine-client")
    services: ClassVar[tuple[str, ...]] = (
        "gridengine-master.service",
        "gridengine-members.service",
        "gridengine-members.path",
    )
    ending_services: ClassVar[tuple[str, ...]] = ("gridengine-members.service",)

    def variables(self, machine: Machine) -> Mapping[str, object]:
        return {"cell": machine.cluster.recipe.grid_engine.cell, "exec_hosts": machine.execution_hosts}

    def intents(self, machine: Machine) -> Iterator[Intent]:
        cluster = machine.cluster
        grid = cluster.recipe.grid_engine
        server = cluster.server.name
        nodes = sorted(host.name for host in cluster.nodes)
        executing = list(machine.execution_hosts)
        common = PurePosixPath(cluster.cell_directory) / "common"
        for directory in (common.parent, common, _SPOOL, _SPOOL / "cqueues", _SPOOL / "qinstances"):
            yield _directory(directory)
        yield _file(common / "act_qmaster", f"{server}\n")
        yield _file(common / "bootstrap", _bootstrap())
        # An execution daemon may register only from an administrative host, and any worker may come.
        yield from _hosts("admin_hosts", [server, *nodes, *cluster.workers])
        yield from _hosts("submit_hosts", [server, *nodes])
        yield from _hosts("exec_hosts", executing)
        yield _file(_SPOOL / "cqueues" / grid.queue, _queue(grid))
        yield _directory(_SPOOL / "qinstances" / grid.queue)
        for node in executing:
            yield _file(_SPOOL / "qinstances" / grid.queue / node, f"qname {grid.queue}\nhostname {node}\n")

    def checks(self, machine: Machine, instance: Instance) -> Iterator[Check]:
        yield from super().checks(machine, instance)
        cluster = machine.cluster
        common = PurePosixPath(cluster.cell_directory) / "common"
        yield Check(
            name="queue",
            proves="qmaster answers, and has the queue",
            command=("qconf", "-sql"),
            expects=has_rows([[cluster.recipe.grid_engine.queue]]),
        )
        yield Check(
            name="master",
            proves="the cell says that the server is its qmaster",
            command=("cat", str(common / "act_qmaster")),
            expects=Prints(text=cluster.server.name),
        )
        yield Check(
            name="administrative-hosts",
            proves="qmaster lets every host and every worker that may come register",
            command=("qconf", "-sh"),
            expects=has_rows([name] for name in (*(host.name for host in cluster.hosts), *cluster.workers)),
        )
        if machine.execution_hosts:
            yield Check(
                name="execution-hosts",
                proves="qmaster has every host that runs jobs as an execution host",
                command=("qconf", "-sel"),
                expects=has_rows([name] for name in machine.execution_hosts),
            )
        yield Check(
            name="spooling",
            proves="the cell tells qmaster to keep its configuration in text files",
            command=("grep", "-w", "^spooling_method", str(common / "bootstrap")),
            expects=has_rows([["spooling_method", "classic"]]),
        )


def _directory(path: PurePosixPath) -> MakeDirectory:
    return MakeDirectory(path=path, owner=_ADMINISTRATOR, group=_ADMINISTRATOR)


def _file(path: PurePosixPath, text: str) -> WriteFile:
    return WriteFile(path=path, content=text.encode(), owner=_ADMINISTRATOR, group=_ADMINISTRATOR)


def _hosts(kind: str, names: list[str]) -> Iterator[Intent]:
    yield _directory(_SPOOL / kind)
    for name in names:
        yield _file(_SPOOL / kind / name, f"hostname {name}\n")


def _bootstrap() -> str:
    """The file bootstrap(5): Debian's, but for the spooling."""
    return _table(
        {
            "admin_user": _ADMINISTRATOR,
            "default_domain": "none",
            "ignore_fqdn": "false",
            "spooling_method": "classic",
            "spooling_lib": "libspoolc",
            "spooling_params": f"{_SPOOL};{_SPOOL}",
            "binary_path": "/usr/sbin",
            "qmaster_spool_dir": str(_SPOOL),
            "security_mode": "none",
            "listener_threads": "2",
            "worker_threads": "2",
            "scheduler_threads": "1",
        }
    )


def _queue(grid: GridEngine) -> str:
    """The cluster queue, queue_conf(5), with every attribute: one that the file lacks would be NONE."""
    attributes = {
        "qname": grid.queue,
        "hostlist": "@allhosts",
        "seq_no": "0",
        # A machine that has just booted is busy, and would get no job for minutes.
        "load_thresholds": "NONE",
        "suspend_thresholds": "NONE",
        "nsuspend": "1",
        "suspend_interval": "00:05:00",
        "priority": "0",
        "min_cpu_interval": "00:05:00",
        "processors": "UNDEFINED",
        "qtype": "BATCH INTERACTIVE",
        "ckpt_list": "NONE",
        "pe_list": "make",
        # The job of a worker that has gone runs again on another.
        "rerun": "TRUE",
        "slots": str(grid.slots),
        "tmpdir": "/tmp",  # noqa: S108 - on the execution host
        "shell": "/bin/sh",
        "prolog": "NONE",
        "epilog": "NONE",
        "shell_start_mode": "posix_compliant",
        "starter_method": "NONE",
        "suspend_method": "NONE",
        "resume_method": "NONE",
        "terminate_method": "NONE",
        "notify": "00:00:60",
        "owner_list": "NONE",
        "user_lists": "NONE",
        "xuser_lists": "NONE",
        "subordinate_list": "NONE",
        "complex_values": "NONE",
        "projects": "NONE",
        "xprojects": "NONE",
        "calendar": "NONE",
        "initial_state": "default",
    }
    limits = {f"{kind}_{limit}": "INFINITY" for limit in _LIMITS for kind in "sh"}
    return _table({**attributes, **limits})


def _table(attributes: Mapping[str, str]) -> str:
    return "".join(f"{name:<23} {value}\n" for name, value in attributes.items())
