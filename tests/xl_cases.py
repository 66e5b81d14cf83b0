"""The broken xl configurations in `cases/xl`, what they are checked against, and a sound one."""

from pathlib import Path

from imagebuilder.xen.surroundings import FileFacts, Surroundings

CASES = sorted((Path(__file__).parent / "cases/xl").glob("*.cfg"))

GOOD = """\
name = "local01"
type = "pv"
vcpus = 1
memory = 1024
maxmem = 1024
bootloader = "pygrub"
disk = [ 'format=qcow2,vdev=xvda,access=rw,target=/images/disk.qcow2' ]
vif = [ 'mac=00:16:3e:03:90:41,bridge=xenbr0' ]
"""

_FILES = {
    "/images": FileFacts(state="directory"),
    "/images/disk.raw": FileFacts(state="there", format="raw"),
    "/images/disk.qcow2": FileFacts(state="there", format="qcow2"),
    "/images/orphan.qcow2": FileFacts(state="there", format="qcow2", missing_backing_files=("/images/base.raw",)),
    "/images/secret.qcow2": FileFacts(state="unreadable"),
    "/images/vmlinuz": FileFacts(state="there", format="raw"),
    "/images/initrd.img": FileFacts(state="there", format="raw"),
}
AROUND = Surroundings(
    look=lambda path: _FILES.get(str(path), FileFacts(state="absent")),
    is_dom0=False,
    bridges=frozenset({"xenbr0", "xenbr1"}),
    macs={"00:16:3e:03:90:41": "local01", "00:16:3e:89:18:0b": "oneserver"},
    uuids={"dbd7656a-636a-57a2-a19a-956e871b9fd3": "oneserver"},
)
