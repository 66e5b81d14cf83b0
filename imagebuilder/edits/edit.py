"""What an edit is: one subject of configuration, as options in a recipe and intents for a plan."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import ClassVar

from imagebuilder.plan.changes import Intent, WriteFile
from imagebuilder.plan.check import Check, Instance, Scope, active_services, unfailed_services
from imagebuilder.recipe.cluster import Cluster, Host
from imagebuilder.recipe.model import Strict
from imagebuilder.recipe.source import Keys
from imagebuilder.secret import Secret


@dataclass(frozen=True, kw_only=True)
class VpnCredentials:
    """What one end of the VPN proves itself with: PEM, but for `tls_crypt`, which has OpenVPN's own format."""

    ca: str
    certificate: str
    key: Secret
    tls_crypt: Secret
    crl: str

    def files(self, directory: PurePosixPath, name: str) -> Iterator[WriteFile]:
        """What OpenVPN reads of them, in `directory`; certificate and key are called `name`."""
        yield WriteFile(path=directory / "ca.crt", content=self.ca.encode())
        yield WriteFile(path=directory / f"{name}.crt", content=self.certificate.encode())
        yield WriteFile(path=directory / f"{name}.key", content=self.key, mode=0o600)
        yield WriteFile(path=directory / "tls-crypt.key", content=self.tls_crypt, mode=0o600)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The machine that an image is for, as its edits see it.

    `host` is None for the workers' image, which many machines share; `credentials` is None while recipes are only
    validated.
    """

    name: str
    role: str
    cluster: Cluster
    host: Host | None
    public_device: str | None = None
    """The interface on the public network, if the machine has one."""
    bridge: str | None = None
    """The bridge that joins the private network and the VPN, if the machine has one."""
    execution_hosts: tuple[str, ...] = ()
    """The hosts of the cluster that run jobs, workers left out."""
    credentials: VpnCredentials | None = None


class Edit(Strict):
    """One subject of configuration; its fields are the options in a role's recipe, its docstring their manual.

    An edit does nothing itself: it says what a plan shall reach. A role that does not use an edit has the edit's
    services switched off.
    """

    overlay: ClassVar[str] = ""
    """The overlay tree that belongs to the edit, rendered with `variables`."""
    packages: ClassVar[tuple[str, ...]] = ()
    """Debian packages that the base must have; `a | b` is met by either."""
    services: ClassVar[tuple[str, ...]] = ()
    """Systemd units that start at boot where the edit is used."""
    unwanted_services: ClassVar[tuple[str, ...]] = ()
    """Units of the edit's packages that must not start at boot, used or not."""
    ending_services: ClassVar[tuple[str, ...]] = ()
    """Those of `services` that end when they have done their work, and are not active from then on."""
    services_need: ClassVar[Scope] = "machine"
    """Whether the services come up on the machine alone, or once the rest of the cluster is there."""

    def variables(self, machine: Machine) -> Mapping[str, object]:
        """What the templates of the edit's overlay can refer to."""
        return {"cluster": machine.cluster, "host": machine.host}

    def intents(self, machine: Machine) -> Iterable[Intent]:
        """What the edit wants of the image beside its overlay and services."""
        del machine
        return ()

    def faults(self, machine: Machine) -> Iterable[tuple[Keys, str, str]]:
        """Where the options do not fit this machine: the option's keys, what is wrong, and the fix."""
        del machine
        return ()

    def checks(self, machine: Machine, instance: Instance) -> Iterable[Check]:
        """What proves on a running `instance` of the machine's image that the edit has had its effect.

        An edit with services proves at least that they run; one that yields checks of its own adds to these.
        """
        del machine, instance
        lasting = [unit for unit in self.services if unit not in self.ending_services]
        if lasting:
            yield active_services(lasting, needs=self.services_need)
        if self.ending_services:
            yield unfailed_services(self.ending_services, needs=self.services_need)
