"""What the real xl says that it understood of a guest, if it understood all as it was meant.

`xl -N create` prints libxl's `libxl_domain_config`, without what has libxl's own default.
"""

from imagebuilder.xen.domain import Boot, DirectKernel, Domain, Firmware, NetworkInterface, Pvgrub, Pygrub

Json = dict[str, object]


def intent(domain: Domain) -> Json:
    """The guest as xl's JSON has it."""
    of_type: Json = {}
    if domain.type == "hvm":
        of_type = {"vga": {}, "vnc": _vnc(domain), "sdl": {}, "spice": {}, "serial": "pty", "rdm": {}}
        of_type |= {"boot": "c"} if isinstance(domain.boot, Firmware) else {}
    return {
        "c_info": {
            "type": domain.type,
            "name": domain.name,
            "uuid": str(domain.uuid),
            "run_hotplug_scripts": "True",
        },
        "b_info": {
            "max_vcpus": domain.vcpus,
            "avail_vcpus": list(range(domain.vcpus)),
            "max_memkb": domain.maxmem_mib * 1024,
            "target_memkb": domain.memory_mib * 1024,
            "sched_params": {},
            "claim_mode": "True",
            **_boot(domain.boot),
            f"type.{domain.type}": of_type,
            "arch_arm": {},
            "arch_x86": {},
        },
        "disks": [
            {
                "pdev_path": str(domain.disk.path),
                "vdev": domain.disk.device,
                "format": domain.disk.format,
                "readwrite": 1,
            }
        ],
        **({"nics": [_nic(*row, domain) for row in enumerate(domain.interfaces)]} if domain.interfaces else {}),
        **({} if domain.on_reboot == "destroy" else {"on_reboot": _action(domain.on_reboot)}),
        **({} if domain.on_crash == "destroy" else {"on_crash": _action(domain.on_crash)}),
        "on_soft_reset": "soft_reset",
    }


def _action(word: str) -> str:
    return "restart_rename" if word == "rename-restart" else word.replace("-", "_")


def _vnc(domain: Domain) -> Json:
    return {"enable": "True", "listen": "127.0.0.1"} if domain.vnc else {"enable": "False"}


def _boot(boot: Boot) -> Json:
    match boot:
        case Pygrub(extra=None):
            return {"bootloader": "pygrub"}
        case Pygrub(extra=extra):
            return {"cmdline": extra, "bootloader": "pygrub"}
        case DirectKernel():
            return {"kernel": str(boot.kernel), "cmdline": boot.command_line, "ramdisk": str(boot.ramdisk)}
        case Pvgrub(binary=binary):
            return {"kernel": str(binary)}
        case Firmware():
            return {}


def _nic(devid: int, interface: NetworkInterface, domain: Domain) -> Json:
    kind = {"nictype": "vif"} if domain.type == "hvm" else {}
    return {"devid": devid, "mac": interface.mac, "bridge": interface.bridge, **kind}
