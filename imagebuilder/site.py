"""A site: the directory with `recipes/` and `overlays/`, read and checked as a whole."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, create_model

from imagebuilder import __version__
from imagebuilder.edits import all_edits
from imagebuilder.edits.edit import Edit, Machine, VpnCredentials
from imagebuilder.edits.interfaces import Interfaces
from imagebuilder.errors import Fault, Place, RecipeError
from imagebuilder.plan.changes import DisableService, EnableService, Intent
from imagebuilder.plan.check import Check, Instance
from imagebuilder.plan.overlay import Overlay, read_overlay
from imagebuilder.recipe.address_plan import make_cluster
from imagebuilder.recipe.cluster import Cluster, ClusterRecipe, Host, Word, is_host_name
from imagebuilder.recipe.foundation import BaseRecipe, DebianBase, OwnBase
from imagebuilder.recipe.model import Strict, nearest, refuse, validate_source
from imagebuilder.recipe.source import Source, read_source
from imagebuilder.recipe.xen import XenDomain
from imagebuilder.secret import Secret

STARTER = Path(__file__).parent / "starter"
_CLUSTER = "cluster.yaml"
_DEFAULT_BASE = "base.yaml"
_OWN_VARIABLES = {"cluster", "host", "machine"}  # what the templates of every overlay can refer to


def _no_options(value: object) -> object:
    """`hostname:` with nothing behind it means the edit with its default options, and `xen:` likewise."""
    return {} if value is None else value


def _edits_model() -> type[Strict]:
    fields = {
        name: (Annotated[edit | None, BeforeValidator(_no_options)], Field(default=None, description=edit.__doc__))
        for name, edit in all_edits().items()
    }
    return create_model("Edits", __base__=Strict, **fields)  # type: ignore[call-overload, no-any-return]


def _variable_name(name: str) -> str:
    if not name.isidentifier():
        raise refuse(f"'{name}' is no name for a variable", "use letters, digits and '_', and begin with a letter")
    if name in _OWN_VARIABLES:
        raise refuse(f"the variable '{name}' is imgbuild's own", "choose another name")
    return name


def _variable(value: object) -> object:
    if isinstance(value, str | int) or (isinstance(value, list) and all(isinstance(one, str) for one in value)):
        return value
    raise refuse("expected text, a whole number, true, false or a list of texts", "put each text in quotes")


Variable = Annotated[str | int | bool | tuple[str, ...], BeforeValidator(_variable)]


class RoleRecipe(Strict):
    """A role: what all machines of one kind have in common."""

    base: Word = _DEFAULT_BASE
    """The file in `recipes/` that describes the base."""
    packages: tuple[Word, ...] = ()
    """Packages that the base must have beside those that the edits require."""
    overlays: tuple[Word, ...] = ()
    """Overlay trees of your own, from `overlays/`."""
    variables: dict[Annotated[str, AfterValidator(_variable_name)], Variable] = {}
    """Values for the templates in those overlays."""
    xen: Annotated[XenDomain | None, BeforeValidator(_no_options)] = None
    """Set for a machine that runs under Xen."""
    edits: Annotated[_edits_model(), Field(description="What is configured, one key a subject.")]  # type: ignore[valid-type]


@dataclass(frozen=True, kw_only=True)
class Role:
    """One role as its recipe describes it."""

    name: str
    recipe: RoleRecipe
    source: Source
    edits: Mapping[str, Edit]

    @property
    def required_packages(self) -> frozenset[str]:
        """Every package that the base must have for this role."""
        return frozenset(self.recipe.packages).union(*(edit.packages for edit in self.edits.values()))

    @property
    def interfaces(self) -> Interfaces | None:
        """The role's network interfaces."""
        return next((edit for edit in self.edits.values() if isinstance(edit, Interfaces)), None)


@dataclass(frozen=True, kw_only=True)
class Site:
    """All that the files of a site say, found free of faults."""

    directory: Path
    cluster: Cluster
    cluster_source: Source
    roles: Mapping[str, Role]
    bases: Mapping[str, BaseRecipe]
    overlays: Mapping[str, Overlay]

    def machines(self) -> tuple[Machine, ...]:
        """One for each image: every host, and one for all workers, which has the name of their role."""
        hosts = [(host.name, host.role, host) for host in self.cluster.hosts]
        shared = self.cluster.recipe.workers.role
        rows = [*hosts, (shared, shared, None)]
        return tuple(self._machine(name, role, host) for name, role, host in rows if role in self.roles)

    def _machine(self, name: str, role: str, host: Host | None) -> Machine:
        interfaces = self.roles[role].interfaces
        return Machine(
            name=name,
            role=role,
            cluster=self.cluster,
            host=host,
            public_device=interfaces.device_on("public") if interfaces else None,
            bridge=interfaces.bridge if interfaces else None,
            execution_hosts=self._hosts_with("gridengine_execd"),
        )

    def _hosts_with(self, edit: str) -> tuple[str, ...]:
        hosts = (host for host in self.cluster.hosts if host.role in self.roles)
        return tuple(sorted(host.name for host in hosts if edit in self.roles[host.role].edits))

    def base_of(self, machine: Machine) -> BaseRecipe:
        """The base that the machine's image is made from."""
        return self.bases[self.roles[machine.role].recipe.base]

    def intents(self, machine: Machine) -> Mapping[str, list[Intent]]:
        """All that the edits and overlays of the machine's role want, by edit. Templates are known to be sound."""
        intents, _ = self._intents_and_faults(machine)
        return intents

    def template_faults(self) -> Iterator[Fault]:
        """What is wrong in the templates, tried with every machine."""
        for machine in self.machines():
            yield from self._intents_and_faults(machine)[1]

    def _intents_and_faults(self, machine: Machine) -> tuple[dict[str, list[Intent]], list[Fault]]:
        role = self.roles[machine.role]
        intents: dict[str, list[Intent]] = {}
        faults: list[Fault] = []
        for name, edit in role.edits.items():
            rendered: list[Intent] = []
            if edit.overlay:
                rendered, found = self.overlays[edit.overlay].render(edit.variables(machine))
                faults += found
            enabled = [EnableService(unit=unit) for unit in edit.services]
            intents[name] = [*rendered, *edit.intents(machine), *enabled]
        variables = {
            **role.recipe.variables,
            "cluster": self.cluster,
            "host": machine.host,
            "machine": machine.name,
        }
        for overlay in role.recipe.overlays:
            intents[f"overlay {overlay}"], found = self.overlays[overlay].render(variables)
            faults += found
        intents["unused edits"] = list(_unwanted(role))
        return intents, faults

    def checks(self, machine: Machine, instance: Instance) -> dict[str, Check]:
        """All that the edits of the machine's role prove on a running instance: by `EDIT.CHECK`, in order."""
        role = self.roles[machine.role]
        return {
            f"{name}.{check.name}": check
            for name, edit in sorted(role.edits.items())
            for check in edit.checks(machine, instance)
        }

    def with_credentials(self, machine: Machine, credentials: VpnCredentials | None) -> Machine:
        """The machine with what it proves itself with on the VPN."""
        return replace(machine, credentials=credentials)

    def inputs(self, machine: Machine) -> dict[str, str]:
        """All that the machine's image is made from beside its base, by name; secrets by their digest only."""
        role = self.roles[machine.role]
        inputs = {
            f"{source.path.name}: {name}": value
            for source in (self.cluster_source, role.source)
            for name, value in _leaves(source.value, "")
        }
        used = {edit.overlay for edit in role.edits.values() if edit.overlay} | set(role.recipe.overlays)
        for name in sorted(used):
            overlay = self.overlays[name]
            inputs |= {f"overlay {name}: {path}": digest for path, digest in overlay.digests().items()}
        if machine.credentials is not None:
            own = machine.credentials
            parts = {"CA": own.ca, "certificate": own.certificate, "revocation list": own.crl}
            inputs |= {f"pki: {part}": Secret(text).digest for part, text in parts.items()}
            inputs["pki: tls-crypt key"] = own.tls_crypt.digest
        return {**inputs, "imgbuild": __version__}

    def vpn_purpose(self, machine: Machine) -> Literal["server", "client"] | None:
        """Which end of the VPN the machine is, if any."""
        edits = self.roles[machine.role].edits
        if "openvpn_server" in edits:
            return "server"
        return "client" if "openvpn_client" in edits else None


def _leaves(value: object, name: str) -> Iterator[tuple[str, str]]:
    """Every single value inside `value` as text, by its dotted name."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _leaves(inner, f"{name}[{index}]")
    elif name.endswith(".password_hash"):
        yield name, f"sha256 {Secret(str(value)).digest}"
    else:
        yield name, str(value)


def _unwanted(role: Role) -> Iterator[DisableService]:
    """Services that other roles may want of the same base, switched off in this one."""
    wanted = {unit for edit in role.edits.values() for unit in edit.services}
    known = {unit for edit in all_edits().values() for unit in (*edit.services, *edit.unwanted_services)}
    return (DisableService(unit=unit) for unit in sorted(known - wanted))


def load_site(directory: Path) -> Site:
    """The site in `directory`. Raises RecipeError with every fault in its recipes and overlays."""
    recipes = directory / "recipes"
    cluster_source, faults = read_source(recipes / _CLUSTER)
    roles, role_names, bases = _load_roles(recipes, faults)
    overlays = _load_overlays(directory, roles, faults)
    cluster = None
    if cluster_source is not None:
        recipe, found = validate_source(cluster_source, ClusterRecipe)
        faults += found
        if recipe is not None:
            cluster, found = make_cluster(recipe, cluster_source, role_names)
            faults += found
    if cluster_source is not None and cluster is not None:
        site = Site(
            directory=directory,
            cluster=cluster,
            cluster_source=cluster_source,
            roles=roles,
            bases=bases,
            overlays=overlays,
        )
        faults += _edit_faults(site)
        faults += site.template_faults()
        if not faults:
            return site
    raise RecipeError(faults)


def _load_roles(recipes: Path, faults: list[Fault]) -> tuple[dict[str, Role], list[str], dict[str, BaseRecipe]]:
    """The roles as far as they are sound, the names of all roles, and the bases."""
    # An editor's lock files begin with a dot.
    names = sorted(file.name for file in recipes.glob("[!.]*.yaml") if file.name != _CLUSTER)
    sources: dict[str, Source] = {}
    for name in names:
        source, found = read_source(recipes / name)
        faults += found
        if source is not None:
            sources[name] = source
    base_files = {_DEFAULT_BASE, *filter(None, map(_base_named, sources.values()))}
    role_files = [name for name in names if name not in base_files]
    if _DEFAULT_BASE not in names and not all(_base_named(sources[name]) for name in role_files if name in sources):
        faults += read_source(recipes / _DEFAULT_BASE)[1]
    bases = {}
    for name in sorted(base_files & sources.keys()):
        base, found = _load_base(sources[name])
        faults += found
        if base is not None:
            bases[name] = base
    roles = {}
    for name in role_files:
        role, found = _load_role(recipes / name, sources.get(name), base_files.intersection(names))
        faults += found
        if role is not None:
            roles[role.name] = role
    return roles, [Path(name).stem for name in role_files], bases


def _load_role(file: Path, source: Source | None, bases: set[str]) -> tuple[Role | None, list[Fault]]:
    faults = []
    if not is_host_name(file.stem):
        what, fix = f"'{file.stem}' is no name for a role", "rename the file: use a-z, 0-9 and '-' inside"
        faults.append(Fault(place=Place(path=file), what=what, fix=fix))
    recipe, found = validate_source(source, RoleRecipe) if source is not None else (None, [])
    faults += found
    if source is None or recipe is None:
        return None, faults
    if recipe.base not in {_DEFAULT_BASE, *bases}:
        what = f"there is no {file.parent / recipe.base}.{nearest(recipe.base, bases)}"
        fix = f"make it, or remove the line to use {_DEFAULT_BASE}"
        faults.append(Fault(place=source.place_of(("base",)), what=what, fix=fix))
    edits = {key: value for key, value in recipe.edits if value is not None}
    return Role(name=file.stem, recipe=recipe, source=source, edits=edits), faults


def _base_named(source: Source) -> str | None:
    named = source.value.get("base") if isinstance(source.value, Mapping) else None
    return named if isinstance(named, str) else None


def _load_base(source: Source) -> tuple[BaseRecipe | None, list[Fault]]:
    if not isinstance(source.value, Mapping) or "image" not in source.value:
        return validate_source(source, DebianBase)
    faults = []
    for key in source.value.keys() & DebianBase.model_fields.keys():
        what = f"'{key}' cannot stand beside 'image'"
        fix = f"remove 'image' to have a base made from packages; remove '{key}' to use the image"
        faults.append(Fault(place=source.place_of_key((key,)), what=what, fix=fix))
    rest = {key: value for key, value in source.value.items() if key not in DebianBase.model_fields}
    own, found = validate_source(replace(source, value=rest), OwnBase)
    return own, [*faults, *found]


def _load_overlays(directory: Path, roles: Mapping[str, Role], faults: list[Fault]) -> dict[str, Overlay]:
    overlays: dict[str, Overlay] = {}
    own, shipped = directory / "overlays", STARTER / "overlays"
    folders = [path for parent in (own, shipped) if parent.is_dir() for path in parent.iterdir() if path.is_dir()]
    available = {path.name for path in folders}
    for role in roles.values():
        for index, name in enumerate(role.recipe.overlays):
            if name not in available:
                what = f"there is no overlay '{name}'.{nearest(name, available)}"
                place = role.source.place_of(("overlays", index))
                faults.append(Fault(place=place, what=what, fix=f"make {own / name / 'rootfs'}, or drop the name"))
    needed = {edit.overlay for role in roles.values() for edit in role.edits.values() if edit.overlay}
    needed |= {name for role in roles.values() for name in role.recipe.overlays}
    for name in sorted(needed):
        folder = own if (own / name).is_dir() else shipped
        overlays[name], found = read_overlay(folder / name)
        faults += found if name in available else []
    return overlays


def _edit_faults(site: Site) -> Iterator[Fault]:
    for machine in site.machines():
        role = site.roles[machine.role]
        for name, edit in role.edits.items():
            for keys, what, fix in edit.faults(machine):
                yield Fault(place=role.source.place_of(("edits", name, *keys)), what=f"{name}: {what}", fix=fix)
