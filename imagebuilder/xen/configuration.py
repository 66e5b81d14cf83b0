"""A guest's configuration in the language of xl.cfg(5) as of Xen 4.17."""

from collections.abc import Iterable, Iterator

from imagebuilder.xen.domain import DirectKernel, Domain, Firmware, NetworkInterface, Pvgrub, Pygrub

_SINGLE = "'"


def configuration_text(domain: Domain) -> str:
    """What `xl create` reads to start the guest."""
    disk = f"format={domain.disk.format},vdev={domain.disk.device},access=rw,target={domain.disk.path}"
    lines = [
        f"# {domain.title}; xl.cfg(5)",
        f"name = {_quoted(domain.name)}",
        f"uuid = {_quoted(str(domain.uuid))}",
        f"type = {_quoted(domain.type)}",
        f"vcpus = {domain.vcpus}",
        f"memory = {domain.memory_mib}",
        f"maxmem = {domain.maxmem_mib}",
        *_boot_lines(domain),
        *_screen_lines(domain),
        # The target comes last: xl takes all that follows it for the file's name.
        f"disk = {_list([disk])}",
        f"vif = {_list(_vif(one, domain) for one in domain.interfaces)}",
        f"on_poweroff = {_quoted(domain.on_poweroff)}",
        f"on_reboot = {_quoted(domain.on_reboot)}",
        f"on_crash = {_quoted(domain.on_crash)}",
    ]
    return "\n".join(lines) + "\n"


def _quoted(text: str, mark: str = '"') -> str:
    """`text` as a string of xl.cfg, in which a backslash takes away the meaning of what follows."""
    return mark + text.replace("\\", "\\\\").replace(mark, f"\\{mark}") + mark


def _list(items: Iterable[str]) -> str:
    return f"[ {', '.join(_quoted(item, _SINGLE) for item in items)} ]"


def _vif(interface: NetworkInterface, domain: Domain) -> str:
    # An hvm guest would otherwise see each interface twice: emulated and paravirtual.
    kind = ",type=vif" if domain.type == "hvm" else ""
    return f"mac={interface.mac},bridge={interface.bridge}{kind}"


def _boot_lines(domain: Domain) -> Iterator[str]:
    match domain.boot:
        case Pygrub(extra=extra):
            yield 'bootloader = "pygrub"'
            if extra:
                yield f"extra = {_quoted(extra)}"
        case DirectKernel(kernel=kernel, ramdisk=ramdisk, command_line=command_line):
            yield f"kernel = {_quoted(str(kernel))}"
            yield f"ramdisk = {_quoted(str(ramdisk))}"
            yield f"cmdline = {_quoted(command_line)}"
        case Pvgrub(binary=binary):
            yield f"kernel = {_quoted(str(binary))}"
        case Firmware():
            yield 'boot = "c"'


def _screen_lines(domain: Domain) -> Iterator[str]:
    if domain.type == "hvm":
        yield 'serial = "pty"'  # what `xl console` shows
        # xl's default is a screen by VNC.
        yield f"vnc = {int(domain.vnc)}"
        if domain.vnc:
            yield 'vnclisten = "127.0.0.1"'
