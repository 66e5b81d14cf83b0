"""Who may import what: the direction between the packages, and one module for each thing outside."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "imagebuilder"

# A module imports from its own package and from the layers above its own line, never from one beside or below it.
LAYERS = (
    {"__version__", "errors"},
    {"programs", "secret", "whole_files"},
    {"recipe"},
    {"plan"},
    {"edits"},
    {"site"},
    {"host", "image", "pki"},
    {"cloud", "compare", "operate", "xen"},
    {"ec2"},
    {"opennebula"},
    {"rehearse"},
    {"cli"},
)

# What is outside, and the one package or module that imports it; of cryptography each has its own part.
OWNER_OF_LIBRARY: dict[str, str | tuple[str, ...]] = {
    "ClusterShell": "recipe.cluster",
    "boto3": "ec2.account",
    "botocore": ("ec2.account", "ec2.boto_failure"),
    "cryptography": ("cloud.ec2_key", "ec2.ciphers", "pki"),
    "flask": "cloud.moto_services",
    "flask_cors": "cloud.moto_services",
    "guestfs": "image.appliance",
    "isal": "ec2.gzip_member",
    "lxml": "opennebula.rpc",
    "moto": "cloud.moto_services",
    "pyone": "opennebula.rpc",
    "qemu": "rehearse.qmp",
    "requests": "opennebula.rpc",
    "rich": "cli",
    "subprocess": "programs",
    "typer": "cli",
    "werkzeug": "cloud.moto_services",
    "yaml": "recipe.source",
    "zstandard": "ec2.initramfs",
    "zlib_ng": "ec2.gzip_member",
}
OWNER_OF_PROGRAM = {
    "cc": "xen.xl",
    "mke2fs": "image.bootstrap",
    "mmdebstrap": "image.bootstrap",
    "qemu-img": "image.qemu_img",
    "qemu-system-x86_64": "host.accelerator",
    "rsync": "xen.dom0",
    "sfdisk": "image.bootstrap",
}
# The first knows the package of each program, the second asks each for its version.
KNOW_EVERY_PROGRAM = {"programs", "host.checks"}

# These take values and return values; they may read the file that they are given.
PURE = (
    *("errors", "secret", "recipe", "plan", "edits"),
    *("xen.configuration", "xen.disk_spec", "xen.domain", "xen.rules_boot", "xen.rules_disks", "xen.rules_guest"),
    *("xen.rules_keys", "xen.rules_network", "xen.surroundings", "xen.xl_cfg", "xen.xl_keys", "xen.xl_messages"),
    *("xen.folder_texts", "xen.xl_mistakes"),
    *("compare.contents", "compare.difference", "pki.fingerprints", "pki.index", "pki.status"),
    *("ec2.ami", "ec2.prune", "ec2.signing", "ec2.rows"),
    *("ec2.boot_sectors", "ec2.call_failed", "ec2.evidence", "ec2.initramfs", "ec2.marks", "ec2.rule", "ec2.seal"),
    *("ec2.rules_boot", "ec2.rules_secrets", "ec2.rules_traces"),
    *(
        "compare.contents",
        "compare.difference",
        "ec2.call_failed",
        "ec2.manifest",
        "ec2.sparse_tar",
        "pki.index",
        "pki.status",
    ),
    *("opennebula.attributes", "opennebula.attributes_of_2008", "opennebula.attributes_of_today", "opennebula.files"),
    *("opennebula.guest", "opennebula.host_script", "opennebula.lint", "opennebula.networks", "opennebula.parser"),
    *("opennebula.references", "opennebula.release", "opennebula.requirements", "opennebula.tables"),
    *("opennebula.template", "opennebula.values", "opennebula.workers"),
    *("operate.grid", "operate.reading", "operate.status"),
    *("opennebula.calls", "opennebula.change_plan", "opennebula.login", "opennebula.machines", "opennebula.things"),
    "opennebula.wanted",
    *("rehearse.network_drawing", "rehearse.outcome", "rehearse.page", "rehearse.queue", "rehearse.time_line"),
    "rehearse.topology",
)
NOT_PURE = {
    *("asyncio", "fcntl", "getpass", "locale", "logging", "multiprocessing", "os", "platform", "random", "secrets"),
    *("shutil", "signal", "socket", "subprocess", "sys", "tempfile", "threading", "time", "urllib.request", "warnings"),
}
# Methods that ask the clock, the directory, the user or chance.
NOT_PURE_METHODS = {"absolute", "cwd", "expanduser", "home", "now", "today", "utcnow", "uuid1", "uuid4"}

PRINTS_OR_EXITS = {
    *("input", "print", "sys.stderr", "sys.stdout"),
    *("SystemExit", "exit", "os._exit", "quit", "sys.exit"),
}

SAYS_NOTHING = {"base", "common", "constants", "core", "helpers", "manager", "misc", "types", "utils"}


@cache
def trees() -> dict[str, ast.Module]:
    """The syntax tree of each module, by its name without `imagebuilder.`."""
    return {
        ".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): ast.parse(
            file.read_text(encoding="utf-8")
        )
        for file in sorted(PACKAGE.rglob("*.py"))
    }


def imports() -> Iterator[tuple[str, str]]:
    """Each import, also one inside a function: the module, and the full name that it imports."""
    for module, tree in trees().items():
        for node in ast.walk(tree):
            match node:
                case ast.Import(names=names):
                    yield from ((module, alias.name) for alias in names)
                case ast.ImportFrom(module=str(source), names=names, level=0):
                    yield from ((module, f"{source}.{alias.name}") for alias in names)


def own_imports() -> Iterator[tuple[str, str]]:
    """The imports from this package: the module, and the name without `imagebuilder.`."""
    prefix = f"{PACKAGE.name}."
    return ((module, name.removeprefix(prefix)) for module, name in imports() if name.startswith(prefix))


def layer(name: str) -> int:
    """The number of the layer of a module; a package that is in none is an error."""
    package = name.partition(".")[0]
    [number] = [number for number, packages in enumerate(LAYERS) if package in packages]
    return number


def is_in(module: str, places: str | tuple[str, ...] | set[str]) -> bool:
    """Whether `module` is one of `places`, or a part of one."""
    names = (places,) if isinstance(places, str) else places
    return any(module == name or module.startswith(f"{name}.") for name in names)


def program_names() -> Iterator[tuple[str, str]]:
    """Each text that is nothing but the name of a program: the module, and the name."""
    for module, tree in trees().items():
        for node in ast.walk(tree):
            match node:
                case ast.Constant(value=str(text)) if text in OWNER_OF_PROGRAM:
                    yield module, text


def attributes() -> Iterator[tuple[str, str]]:
    """Each attribute that is used, behind its object if that is a plain name: `sys.exit`, `.now`."""
    for module, tree in trees().items():
        for node in ast.walk(tree):
            match node:
                case ast.Attribute(value=ast.Name(id=owner), attr=attribute):
                    yield module, f"{owner}.{attribute}"
                case ast.Attribute(attr=attribute):
                    yield module, f".{attribute}"


def plain_names() -> Iterator[tuple[str, str]]:
    """Each plain name that is used, such as `print`."""
    for module, tree in trees().items():
        yield from ((module, node.id) for node in ast.walk(tree) if isinstance(node, ast.Name))


def test_every_package_has_its_layer() -> None:
    packages = {module.partition(".")[0] for module in trees()} - {"__init__"}

    assert packages <= set().union(*LAYERS)


def test_imports_are_absolute() -> None:
    nodes = [(module, node) for module, tree in trees().items() for node in ast.walk(tree)]

    relative = [module for module, node in nodes if isinstance(node, ast.ImportFrom) and node.level]

    assert relative == []


def test_imports_go_from_cli_towards_recipe_and_never_back() -> None:
    own = [(module, name) for module, name in own_imports() if module.partition(".")[0] != name.partition(".")[0]]

    wrong = [f"{module} imports {name}" for module, name in own if layer(name) >= layer(module)]

    assert wrong == []


def test_each_library_of_the_outside_has_one_importer() -> None:
    outside = [(module, name, OWNER_OF_LIBRARY.get(name.partition(".")[0])) for module, name in imports()]

    wrong = [f"{module} imports {name}" for module, name, owner in outside if owner and not is_in(module, owner)]

    assert wrong == []


def test_each_program_is_started_by_one_module() -> None:
    named = [(module, program) for module, program in program_names() if module not in KNOW_EVERY_PROGRAM]

    wrong = [f"{module} names {program}" for module, program in named if module != OWNER_OF_PROGRAM[program]]

    assert wrong == []


def test_pure_modules_import_nothing_with_an_effect() -> None:
    pure = [(module, name) for module, name in imports() if is_in(module, PURE)]

    wrong = [f"{module} imports {name}" for module, name in pure if is_in(name, NOT_PURE)]

    assert wrong == []


def test_pure_modules_ask_neither_the_clock_nor_the_directory_nor_chance() -> None:
    pure = [(module, attribute) for module, attribute in attributes() if is_in(module, PURE)]

    wrong = [f"{module}: {name}" for module, name in pure if name.partition(".")[2] in NOT_PURE_METHODS]

    assert wrong == []


def test_only_cli_prints_and_exits() -> None:
    used = [(module, name) for module, name in (*plain_names(), *attributes()) if not is_in(module, "cli")]

    wrong = [f"{module}: {name}" for module, name in used if name in PRINTS_OR_EXITS]

    assert wrong == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    parts = {part for module in trees() for part in module.split(".")}

    assert parts & SAYS_NOTHING == set()
