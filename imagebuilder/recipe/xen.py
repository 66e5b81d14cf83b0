"""How Xen runs the machines of a role, as its recipe says it."""

import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from imagebuilder.recipe.model import Boolean, Integer, Strict, refuse

# Neither a quote nor a backslash nor '#': each means something in GRUB's menu, in an xl configuration, or to both.
_KERNEL_OPTIONS = re.compile(r"[\w.,:=/@%+-]+( [\w.,:=/@%+-]+)*", re.ASCII)


def _kernel_options(text: str) -> str:
    if not _KERNEL_OPTIONS.fullmatch(text):
        fix = "write them with one blank between two, from letters, digits and . , : = / @ % + - _"
        raise refuse(f"'{text}' are no kernel options", fix)
    return text


KernelOptions = Annotated[str, AfterValidator(_kernel_options)]
XenType = Literal["pv", "pvh", "hvm"]
XenBoot = Literal["pygrub", "kernel", "pvgrub", "firmware"]
# xl.cfg(5): a bootloader is for pv and pvh guests, Debian has a pvgrub for both; only an hvm guest has a BIOS.
_BOOT_OF_TYPE: Mapping[XenType, tuple[XenBoot, ...]] = {
    "pv": ("pygrub", "kernel", "pvgrub"),
    "pvh": ("pygrub", "kernel", "pvgrub"),
    "hvm": ("firmware", "kernel"),
}

# What an initramfs of Debian's smallest kernel takes to unpack, and the kernel beside it.
LEAST_MEMORY_MIB = 64
# xen/include/public/hvm/hvm_info_table.h: HVM_MAX_VCPUS, also of pvh; pv guests could have more than any host has.
MOST_VCPUS: Mapping[XenType, int] = {"pv": 512, "pvh": 128, "hvm": 128}


class XenDomain(Strict):
    """How Xen runs the machine; see xl.cfg(5) and docs/xen.md."""

    type: XenType = "pv"
    """The kind of guest."""
    boot: XenBoot | None = None
    """What finds the kernel. `pygrub`: a program in dom0 reads the image's GRUB menu; pv and pvh, their default.
    `kernel`: Xen starts copies of the image's kernel and initramfs, which stand in the store. `pvgrub`: a GRUB made
    for Xen, in dom0's grub-xen-host, reads the menu inside the guest; pv and pvh. `firmware`: the BIOS; hvm, its
    default."""
    vcpus: Annotated[Integer, Field(ge=1, le=512)] = 1
    """Virtual CPUs; pvh and hvm guests have at most 128."""
    memory_mib: Annotated[Integer, Field(ge=LEAST_MEMORY_MIB)] = 1024
    """Memory in MiB."""
    maxmem_mib: Annotated[Integer, Field(ge=LEAST_MEMORY_MIB)] | None = None
    """What the guest's memory may grow to, in MiB; as much as `memory_mib` if it is not given."""
    extra: KernelOptions | None = None
    """Kernel options behind those in the image's GRUB menu; with `boot: pygrub` or `kernel`."""
    on_reboot: Literal["restart", "destroy", "preserve", "rename-restart"] = "restart"
    """What xl does when the guest reboots."""
    on_crash: Literal["destroy", "restart", "preserve", "rename-restart", "coredump-destroy", "coredump-restart"] = (
        "destroy"
    )
    """What xl does when the guest has crashed."""
    vnc: Boolean | None = None
    """Whether an hvm guest's screen is shown by VNC, on dom0's 127.0.0.1 only; it is if this is not given."""

    @property
    def boots_by(self) -> XenBoot:
        """What finds the kernel: as given, else what is usual for the type."""
        return self.boot or _BOOT_OF_TYPE[self.type][0]

    @field_validator("boot")
    @classmethod
    def _boot_fits(cls, boot: XenBoot | None, others: ValidationInfo) -> XenBoot | None:
        kind: XenType | None = others.data.get("type")
        if kind is not None and boot is not None and boot not in _BOOT_OF_TYPE[kind]:
            fix = f"use {' or '.join(_BOOT_OF_TYPE[kind])}, or another type"
            raise refuse(f"a guest of type {kind} cannot boot by {boot}", fix)
        return boot

    @field_validator("vcpus")
    @classmethod
    def _vcpus_fit(cls, vcpus: int, others: ValidationInfo) -> int:
        kind: XenType | None = others.data.get("type")
        if kind is not None and vcpus > MOST_VCPUS[kind]:
            raise refuse(f"a guest of type {kind} has at most {MOST_VCPUS[kind]}", "use fewer, or another type")
        return vcpus

    @field_validator("maxmem_mib")
    @classmethod
    def _maxmem_is_enough(cls, maxmem_mib: int | None, others: ValidationInfo) -> int | None:
        memory_mib = others.data.get("memory_mib")
        if maxmem_mib is not None and memory_mib is not None and maxmem_mib < memory_mib:
            raise refuse(f"less than memory_mib, {memory_mib}", "raise it, or remove it")
        return maxmem_mib

    @field_validator("extra")
    @classmethod
    def _extra_has_a_taker(cls, extra: str | None, others: ValidationInfo) -> str | None:
        kind: XenType | None = others.data.get("type")
        boot = others.data.get("boot") or (_BOOT_OF_TYPE[kind][0] if kind else None)
        if extra is not None and boot in ("pvgrub", "firmware"):
            fix = "write them into the image's GRUB menu by an overlay, or use `boot: kernel`"
            raise refuse(f"{boot} gives the kernel no options but those of the image's GRUB menu", fix)
        return extra

    @field_validator("vnc")
    @classmethod
    def _vnc_has_a_screen(cls, vnc: bool | None, others: ValidationInfo) -> bool | None:  # noqa: FBT001 - as pydantic calls it
        kind: XenType | None = others.data.get("type")
        if vnc is not None and kind in ("pv", "pvh"):
            raise refuse(f"a guest of type {kind} has no screen", "remove it; `xl console NAME` shows its console")
        return vnc
