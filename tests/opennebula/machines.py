"""one.template.*, one.host.* and one.vm.*, as src/rm and src/vm of OpenNebula have them."""

import time
from collections.abc import Mapping

from tests.opennebula.language import Attributes, read_template
from tests.opennebula.pools import PENDING, READY, Host, Image, Machine, Range, Template
from tests.opennebula.state import ALLOCATE, API, AUTHORIZATION, NO_EXISTS, RefusalError, State, User


class MachineCalls(State):
    """Templates, the machines that are made of them, and hosts."""

    def template_allocate(self, user: User, text: str) -> int:
        thing = self._new(user, read_template(text), Template, self.templates)
        self.templates[thing.id] = Template(**vars(thing))
        return thing.id

    def template_info(self, user: User, id_: int, _extended: bool = False, _decrypt: bool = False) -> str:
        return str(self._get(user, self.templates, Template, id_, "USE").xml())

    def template_update(self, user: User, id_: int, text: str, kind: int) -> int:
        return self._update(user, self.templates, Template, id_, text, kind)

    def template_delete(self, user: User, id_: int, images_too: bool = False) -> int:
        self._get(user, self.templates, Template, id_, "MANAGE")
        if images_too:
            raise RefusalError(API, "the stand-in deletes no images with a template")
        del self.templates[id_]
        return id_

    def template_instantiate(  # noqa: PLR0917 - as many as the call of oned has
        self,
        user: User,
        id_: int,
        name: str,
        on_hold: bool = False,
        extra: str = "",
        persistent: bool = False,
    ) -> int:
        template: Template = self._get(user, self.templates, Template, id_, "USE")
        if on_hold or extra or persistent:
            raise RefusalError(API, "the stand-in knows no VM on hold, nor a persistent one")
        failed = "Error allocating a new virtual machine."
        for mandatory in ("CPU", "MEMORY"):
            if not template.single(mandatory):
                raise RefusalError(ALLOCATE, f"{failed} {mandatory} attribute must be a positive float or integer")
        images = [self._image_of(user, dict(disk)) for disk in template.vectors("DISK") if not disk.get("SIZE")]
        leases = [
            (*self._lease_of(user, dict(nic)), dict(nic))
            for nic in template.vectors("NIC")
            if "NETWORK_MODE" not in nic
        ]
        self.last_id += 1
        for image in images:
            image.running.append(self.last_id)
        for range_, ip, _ in leases:
            range_.holders[ip] = self.last_id
        of_the_core = {"CPU", "MEMORY", "VCPU", "DISK", "NIC", "OS", "CONTEXT", "FEATURES", "GRAPHICS", "RAW"}
        kept: Attributes = [(key, value) for key, value in template.attributes if key in of_the_core - {"DISK", "NIC"}]
        kept += [("DISK", {**dict(disk), "DISK_ID": str(n)}) for n, disk in enumerate(template.vectors("DISK"))]
        kept += [
            ("NIC", {**nic, "IP": ip, "MAC": range_.mac, "NIC_ID": str(n)})
            for n, (range_, ip, nic) in enumerate(leases)
        ]
        machine = Machine(
            id=self.last_id,
            uid=user[0],
            user=user[1],
            name=name or f"{template.name}-{self.last_id}",
            attributes=[*kept, ("TEMPLATE_ID", str(id_)), ("TM_MAD_SYSTEM", "ssh"), ("VMID", str(self.last_id))],
            user_attributes=[(key, value) for key, value in template.attributes if key not in of_the_core],
            state=PENDING,
            lcm_state=0,
            begun_at=int(time.time()),
            host="host01",
        )
        self.machines[machine.id] = machine
        return machine.id

    def _image_of(self, user: User, disk: Mapping[str, str]) -> Image:
        failed = "Error allocating a new virtual machine."
        if "IMAGE_ID" in disk:
            found = [image for image in self.images.values() if str(image.id) == disk["IMAGE_ID"]]
        else:
            owner = disk.get("IMAGE_UNAME", user[1])
            found = [one for one in self.images.values() if (one.name, one.user) == (disk.get("IMAGE"), owner)]
        if not found:
            what = f"User {user[0]} does not own an image with name: {disk.get('IMAGE')} ."
            raise RefusalError(ALLOCATE, f"{failed} {what} Set IMAGE_UNAME or IMAGE_UID of owner in DISK.")
        if found[0].state != READY:
            raise RefusalError(ALLOCATE, f"{failed} Image {found[0].id} is not in READY or USED state")
        return found[0]

    def _lease_of(self, user: User, nic: Mapping[str, str]) -> tuple[Range, str]:
        failed = "Error allocating a new virtual machine."
        owner = nic.get("NETWORK_UNAME", user[1])
        found = [
            one
            for one in self.networks.values()
            if (one.name, one.user) == (nic.get("NETWORK"), owner) or str(one.id) == nic.get("NETWORK_ID")
        ]
        if not found:
            what = f"User {user[0]} does not own a network with name: {nic.get('NETWORK')} ."
            raise RefusalError(ALLOCATE, f"{failed} {what} Set NETWORK_UNAME or NETWORK_UID of owner in NIC.")
        for range_ in found[0].ranges:
            for ip in range_.addresses():
                if ip not in range_.holders and nic.get("IP", ip) == ip:
                    return range_, ip
        raise RefusalError(ALLOCATE, f"{failed} Cannot get IP/MAC lease from virtual network {found[0].id}.")

    def host_allocate(self, user: User, name: str, im_mad: str, vm_mad: str, cluster: int) -> int:
        if user[0] != 0:
            raise RefusalError(AUTHORIZATION, f"User [{user[0]}] : Not authorized to perform CREATE HOST .")
        if cluster not in {-1, 0}:
            raise RefusalError(NO_EXISTS, f"Error getting cluster [{cluster}].")
        thing = self._new(user, [("NAME", name)], Host, self.hosts)
        self.hosts[thing.id] = Host(**vars(thing), im_mad=im_mad, vm_mad=vm_mad)
        return thing.id

    def host_info(self, user: User, id_: int, _: bool = False) -> str:
        return str(self._get(user, self.hosts, Host, id_, "USE").xml())

    def host_update(self, user: User, id_: int, text: str, kind: int) -> int:
        return self._update(user, self.hosts, Host, id_, text, kind)

    def host_delete(self, user: User, id_: int) -> int:
        self._get(user, self.hosts, Host, id_, "ADMIN")
        del self.hosts[id_]
        return id_

    def vm_info(self, user: User, id_: int, _: bool = False) -> str:
        machine: Machine = self._get(user, self.machines, Machine, id_, "USE")
        xml = machine.xml()
        machine.go_on()
        return xml
