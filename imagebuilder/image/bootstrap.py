"""Makes a base: from a description to a bootable disk, by mmdebstrap and mke2fs in namespaces.

No device is used and no appliance started, and root is not needed where users may have user namespaces.
Why so, and how fast: docs/decisions/0002-base-disk-without-root.md.
"""

import hashlib
import io
import json
import os
import shlex
import tarfile
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

import jinja2

from imagebuilder.errors import BuildError
from imagebuilder.image import grub
from imagebuilder.image.namespace import namespace, remove
from imagebuilder.programs import run_program

FILES = Path(__file__).with_name("bootstrap_files")

# Any fixed time does: what the build itself writes carries it, so that two builds agree.
SOURCE_DATE_EPOCH = 1_700_000_000

# eth0 rather than names that differ between QEMU, Xen and EC2. No self-tests of the kernel's ciphers, which upstream's
# default leaves out, too: they are a tenth of the boot of an emulated machine, and the VPN's ciphers are OpenVPN's own.
# The last console is /dev/console; one that the machine lacks (hvc0 is Xen's) is ignored, and systemd starts a login
# prompt on each that is there.
KERNEL_OPTIONS = "net.ifnames=0 biosdevname=0 cryptomgr.notests console=tty0 console=hvc0 console=ttyS0,115200"

_WORK_PREFIX = "bootstrap-"
_MIB = 1 << 20
_GIB = 1 << 30

# On a GPT disk core.img has a partition of its own: 1 MiB, which holds it several times. It is number 14, as in
# Debian's cloud images, so that the root is number 1; the root is last on the disk, so that it can grow.
_CORE_SECTOR = _MIB // grub.SECTOR_BYTES
_CORE_SECTORS = _MIB // grub.SECTOR_BYTES
_ROOT_OFFSET_BYTES = 2 * _MIB
_END_BYTES = _MIB  # the second copy of the partition table, rounded up so that the root ends on a MiB

# Debian 12's defaults said in full, for the guest must be able to read what the host makes: a newer host adds
# metadata_csum_seed, which GRUB 2.06 does not know.
_EXT4_FEATURES = (
    "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,"
    "huge_file,dir_nlink,extra_isize,metadata_csum"
)

# What core.img must be able to do before it can load modules from /boot/grub.
_CORE_MODULES = ("biosdisk", "part_gpt", "ext2", "search_fs_uuid")

# Without these no disk comes about, or none that boots; initramfs-tools would choose gzip if zstd were not there.
_NEEDED_PACKAGES = (
    "systemd-sysv",
    "udev",
    "initramfs-tools",
    "zstd",
    "e2fsprogs",
    "grub-pc-bin",
    "grub2-common",
)

# What starts on every Debian and is of no use here. What each costs, and what stays although it costs more:
# docs/boot.md. `systemctl unmask` brings a unit back.
_MASKED_UNITS = (
    # Chores of a machine that lives for years; upgrades come with a new base.
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    # Kernel interfaces that nothing here uses. Each mount and each modprobe is a program to start before all others.
    "sys-fs-fuse-connections.mount",
    "modprobe@fuse.service",
    "sys-kernel-config.mount",
    "modprobe@configfs.service",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "modprobe@drm.service",  # logind wants it, for screens
    # Python's compiled files as commands.
    "systemd-binfmt.service",
    "proc-sys-fs-binfmt_misc.automount",
    # Crash dumps in the memory of UEFI firmware; these disks boot by BIOS.
    "systemd-pstore.service",
    "modprobe@efi_pstore.service",
    # Has nothing to do here, but loads loop and dm_mod before it finds that out.
    "systemd-repart.service",
    # The kernel says again, for the journal, what systemd has told it already: every start and stop of a unit.
    "systemd-journald-audit.socket",
    # Notes the runlevel, which systemd does not have, where `runlevel` and `who -r` look.
    "systemd-update-utmp-runlevel.service",
)

# Programs that systemd runs before it knows any unit: for encrypted, verified, swap and hibernated partitions and for
# upgrades at boot, none of which these disks have; and cloud-init's, which would put all of its units before the
# network on every machine that it takes for one in a cloud (a worker has a unit of its own, see the edit
# cloud_identity). /etc/fstab, the kernel's command line, init scripts and the login prompts have theirs still.
_MASKED_GENERATORS = (
    "cloud-init-generator",
    "systemd-cryptsetup-generator",
    "systemd-gpt-auto-generator",
    "systemd-hibernate-resume-generator",
    "systemd-integritysetup-generator",
    "systemd-system-update-generator",
    "systemd-veritysetup-generator",
)

_DOCUMENTATION = (
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/locale/*",
    "path-include=/usr/share/locale/locale.alias",
)

# Identity, logs and caches that maintainer scripts leave behind; mmdebstrap removes its own.
_LEAVINGS = (
    "/etc/ssh/ssh_host_*_key*",
    "/etc/*-",
    "/var/lib/systemd/random-seed",
    "/var/lib/dbus/machine-id",
    "/var/lib/dpkg/*-old",
    "/var/cache/debconf/*-old",
    "/var/log/journal/*",
)


@dataclass(frozen=True, kw_only=True)
class BaseDescription:
    """What a base consists of: the `base.yaml` of a site, resolved."""

    suite: str
    packages: tuple[str, ...]
    kernel: str
    disk_size_gib: int
    label: str
    components: tuple[str, ...] = ("main",)
    mirror: str | None = None
    """Where to fetch from, which the image will name, too. None: what mmdebstrap takes, with updates."""
    debconf: tuple[str, ...] = ()
    """Answers to the packages' questions, as `debconf-set-selections` reads them."""
    exclude_documentation: bool = True


def recipe_key(description: BaseDescription) -> str:
    """SHA-256 over all that decides what a base is but the package versions of the day: also this code."""
    digest = hashlib.sha256(json.dumps(asdict(description), sort_keys=True).encode())
    own = [Path(__file__), Path(grub.__file__), *(path for path, _ in _template_files())]
    for path in own:
        content = path.read_bytes()
        digest.update(f"\0{path.relative_to(Path(__file__).parent)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def bootstrap(
    description: BaseDescription,
    *,
    disk: Path,
    log: Path,
    scratch: Path,
    on_step: Callable[[str], None],
) -> None:
    """Make `disk`, a sparse raw disk that boots; each program's output goes to `log`.

    `scratch` is a directory for about 1.5 GB of intermediate files, which are gone in any case when this returns;
    if it fails or is interrupted, so is `disk`. Calls `on_step` with the name of each step as it begins. Raises
    HostError if the host cannot do it, with what to do, and BuildError if a step fails.
    """
    _require_programs(log)
    enter = namespace(log=log)
    disk_uuid = uuid.uuid5(uuid.NAMESPACE_OID, recipe_key(description))
    with ExitStack() as undo:
        work = Path(tempfile.mkdtemp(prefix=_WORK_PREFIX, dir=scratch))
        undo.callback(remove, work, enter=enter, log=log)
        undo.push(lambda kind, *_: disk.unlink(missing_ok=True) if kind else None)
        work.chmod(0o755)  # apt fetches as a user of its own
        on_step("install packages")
        tree = _install_packages(description, work=work, disk_uuid=disk_uuid, enter=enter, log=log)
        on_step("make the disk")
        _make_disk(description, tree=tree, disk=disk, disk_uuid=disk_uuid, enter=enter, log=log)
        on_step("install the boot loader")
        _embed_grub(disk, tree / "boot/grub/i386-pc")


def _install_packages(
    description: BaseDescription, *, work: Path, disk_uuid: uuid.UUID, enter: Sequence[str], log: Path
) -> Path:
    began = time.time()
    tree, files, answers = work / "tree", work / "files.tar", work / "answers"
    files.write_bytes(files_archive(description, disk_uuid=disk_uuid))
    answers.write_text("".join(f"{line}\n" for line in description.debconf))
    try:
        run_program(
            [*enter, *mmdebstrap_command(description, tree=tree, files=files, answers=answers)],
            environment={"SOURCE_DATE_EPOCH": str(SOURCE_DATE_EPOCH), "TMPDIR": str(work)},
            log=log,
        )
    except BuildError as error:
        raise mmdebstrap_error(error, log=log) from error
    # The guest's kernel makes the device nodes (devtmpfs); here only root could have.
    run_program([*enter, "find", tree / "dev", "-mindepth", "1", "-delete"], log=log)
    touch = ("touch", "--no-dereference", f"--date=@{SOURCE_DATE_EPOCH}")
    run_program([*enter, "find", tree, "-newermt", f"@{began:.0f}", "-exec", *touch, "{}", "+"], log=log)
    return tree


def mmdebstrap_error(error: BuildError, *, log: Path) -> BuildError:
    """`error` by its cause: the first line that apt or mmdebstrap marked as an error, of several."""
    causes = [line.removeprefix("E: ") for line in error.what.split("; ") if line.startswith("E: ")]
    fix = f"check suite, mirror, components and packages; all that was said is in {log}"
    return BuildError(causes[0] if causes else error.what, where="mmdebstrap", fix=fix)


def _make_disk(  # noqa: PLR0913 - three things to make it of, three of the host
    description: BaseDescription,
    *,
    tree: Path,
    disk: Path,
    disk_uuid: uuid.UUID,
    enter: Sequence[str],
    log: Path,
) -> None:
    with disk.open("wb") as stream:
        stream.truncate(description.disk_size_gib * _GIB)
    run_program(
        ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", disk],
        stdin=partition_script(description, disk_uuid=disk_uuid).encode(),
        log=log,
    )
    try:
        run_program(
            [*enter, *mke2fs_command(description, tree=tree, disk=disk, disk_uuid=disk_uuid)],
            environment={"E2FSPROGS_FAKE_TIME": str(SOURCE_DATE_EPOCH), "MKE2FS_CONFIG": os.devnull},
            log=log,
        )
    except BuildError as error:
        if "Could not allocate" not in error.what:
            raise
        size = f"{description.disk_size_gib} GiB"
        raise BuildError(f"the packages do not fit on a disk of {size}", fix="raise disk_size_gib") from error


def sweep(scratch: Path, *, log: Path) -> None:
    """Remove what a `bootstrap` that was killed left in `scratch`; its files may belong to subordinate ids."""
    enter = namespace(log=log)
    for leaving in sorted(scratch.glob(f"{_WORK_PREFIX}*")):
        remove(leaving, enter=enter, log=log)


def _require_programs(log: Path) -> None:
    """Raise HostError for a program that is missing; the versions of the others are the first lines of the log."""
    for argv in (["mmdebstrap", "--version"], ["sfdisk", "--version"], ["mke2fs", "-V"], ["unshare", "--version"]):
        run_program(argv, log=log)
    if os.geteuid() != 0:
        with suppress(BuildError):  # it has no option that only tells its version
            run_program(["newuidmap"], log=log)


def mmdebstrap_command(description: BaseDescription, *, tree: Path, files: Path, answers: Path) -> list[str]:
    """The command that makes `tree`, a complete root directory, within a namespace."""
    packages = dict.fromkeys((*description.packages, *_NEEDED_PACKAGES, description.kernel))
    options = [f"--dpkgopt={line}" for line in _DOCUMENTATION] if description.exclude_documentation else []
    hooks = [
        f"--essential-hook=upload {shlex.quote(str(answers))} /var/cache/debconf/answers",
        '--essential-hook=chroot "$1" debconf-set-selections /var/cache/debconf/answers',
        '--essential-hook=rm "$1/var/cache/debconf/answers"',
        f"--customize-hook=tar-in {shlex.quote(str(files))} /",
        *(f"--customize-hook={line}" for line in _finishing_hooks()),
    ]
    return [
        "mmdebstrap",
        # Asks for no user namespace when it is root already, as it is here.
        "--mode=unshare",
        "--variant=minbase",
        "--format=directory",
        f"--components={','.join(description.components)}",
        f"--include={','.join(packages)}",
        *options,
        *hooks,
        description.suite,
        str(tree),
        *([description.mirror] if description.mirror else []),
    ]


def _finishing_hooks() -> Iterator[str]:
    modules = "/boot/grub/i386-pc"
    yield _in_image("systemctl", "--quiet", "mask", *_MASKED_UNITS)
    # The same for generators, systemd.generator(7).
    links = (f"/etc/systemd/system-generators/{name}" for name in _MASKED_GENERATORS)
    yield _in_image(
        "sh", "-c", f"for link in {' '.join(links)}; do install -d ${{link%/*}}; ln -s /dev/null $link; done"
    )
    # The kernel's package has made one before /etc/initramfs-tools was here.
    yield _in_image("update-initramfs", "-u", "-k", "all")
    yield _in_image("mkdir", "-p", modules)
    yield _in_image("sh", "-c", f"cp /usr/lib/grub/i386-pc/*.mod /usr/lib/grub/i386-pc/*.lst {modules}/")
    yield _in_image("cp", "/usr/lib/grub/i386-pc/boot.img", f"{modules}/boot.img")
    yield _in_image(
        *("grub-mkimage", "--format=i386-pc", "--prefix=/boot/grub", f"--config={modules}/load.cfg"),
        *(f"--output={modules}/core.img", *_CORE_MODULES),
    )
    yield _in_image("sh", "-c", f"rm -rf {' '.join(_LEAVINGS)}")


def _in_image(*argv: str) -> str:
    return f'chroot "$1" {shlex.join(argv)}'


def files_archive(description: BaseDescription, *, disk_uuid: uuid.UUID) -> bytes:
    """bootstrap_files as a tar archive, its templates rendered; the same bytes for the same input."""
    values = {
        "label": description.label,
        "kernel_options": KERNEL_OPTIONS,
        "uuid": str(disk_uuid),
    }
    environment = jinja2.Environment(  # noqa: S701 - configuration files, not web pages
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, trim_blocks=True
    )
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, destination in _template_files():
            content = path.read_bytes()
            if path.suffix == ".j2":
                content = environment.from_string(content.decode()).render(values).encode()
            member = tarfile.TarInfo(str(destination.relative_to("/")))
            member.size, member.mtime = len(content), SOURCE_DATE_EPOCH
            member.mode = 0o755 if content.startswith(b"#!") else 0o644
            archive.addfile(member, io.BytesIO(content))
    return output.getvalue()


def _template_files() -> Iterable[tuple[Path, PurePosixPath]]:
    for path in sorted(path for path in FILES.rglob("*") if path.is_file()):
        inside = PurePosixPath("/", path.relative_to(FILES))
        yield path, inside.with_suffix("") if path.suffix == ".j2" else inside


def partition_script(description: BaseDescription, *, disk_uuid: uuid.UUID) -> str:
    """The partition table in sfdisk's language; its ids follow from `disk_uuid`."""
    root_sectors = _root_bytes(description) // grub.SECTOR_BYTES
    return (
        f"label: gpt\nlabel-id: {uuid.uuid5(disk_uuid, 'disk')}\nunit: sectors\n"
        f"14: start={_CORE_SECTOR}, size={_CORE_SECTORS}, type=21686148-6449-6E6F-744E-656564454649,"
        f" uuid={uuid.uuid5(disk_uuid, 'bios-boot')}, name=bios-boot\n"
        f"1: start={_ROOT_OFFSET_BYTES // grub.SECTOR_BYTES}, size={root_sectors},"
        f" type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, uuid={uuid.uuid5(disk_uuid, 'root')}, name=root\n"
    )


def mke2fs_command(description: BaseDescription, *, tree: Path, disk: Path, disk_uuid: uuid.UUID) -> list[str]:
    """The command that fills the root partition of `disk` with `tree`, within a namespace."""
    return [
        *("mke2fs", "-q", "-F", "-O", _EXT4_FEATURES),
        *("-b", "4096", "-I", "256", "-i", "16384", "-m", "1"),
        *("-L", description.label, "-U", str(disk_uuid)),
        # No work left for the first boot of each copy, and names hashed the same way in every build.
        *(
            "-E",
            f"offset={_ROOT_OFFSET_BYTES},hash_seed={disk_uuid},lazy_itable_init=0,lazy_journal_init=0,nodiscard",
        ),
        *("-d", str(tree), str(disk), f"{_root_bytes(description) // 1024}k"),
    ]


def _root_bytes(description: BaseDescription) -> int:
    return description.disk_size_gib * _GIB - _ROOT_OFFSET_BYTES - _END_BYTES


def _embed_grub(disk: Path, modules: Path) -> None:
    core = grub.embedded_core((modules / "core.img").read_bytes(), core_sector=_CORE_SECTOR, room_sectors=_CORE_SECTORS)
    with disk.open("r+b") as stream:
        present = stream.read(grub.SECTOR_BYTES)
        first = grub.boot_sector((modules / "boot.img").read_bytes(), present=present, core_sector=_CORE_SECTOR)
        stream.seek(_CORE_SECTOR * grub.SECTOR_BYTES)
        stream.write(core)
        stream.seek(0)
        stream.write(first)
