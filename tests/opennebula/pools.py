"""What the stand-in keeps: images, templates, networks, hosts and virtual machines, and their XML.

The XML has every element that the bindings of pyone 7.3 have for a released oned, in their order
(share/doc/xsd/*.xsd of OpenNebula 7).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from xml.sax.saxutils import escape

from tests.opennebula.language import Attributes, Value

READY, ERROR, LOCKED = 1, 5, 4  # of an image; a network's READY is the same number
VN_LOCKED = 2
PENDING, ACTIVE = 1, 3
PROLOG, BOOT, RUNNING = 1, 2, 3
_PERMISSIONS = "".join(
    f"<{who}_{what}>{int(who == 'OWNER' and what != 'A')}</{who}_{what}>"
    for who in ("OWNER", "GROUP", "OTHER")
    for what in "UMA"
)


@dataclass(kw_only=True)
class Thing:
    """One object of a pool."""

    id: int
    uid: int
    user: str
    name: str
    attributes: Attributes

    def single(self, name: str) -> str:
        """The first single attribute of this name, or nothing."""
        return next((value for key, value in self.attributes if key == name and isinstance(value, str)), "")

    def vectors(self, name: str) -> list[Mapping[str, str]]:
        """All vector attributes of this name."""
        return [value for key, value in self.attributes if key == name and not isinstance(value, str)]

    def take(self, name: str) -> str:
        """Take a single attribute out of the template, as oned does with those that it keeps elsewhere."""
        value = self.single(name)
        self.attributes = [(key, one) for key, one in self.attributes if key != name]
        return value

    def put(self, name: str, value: str) -> None:
        """Set a single attribute."""
        self.take(name)
        self.attributes.append((name, value))

    def owner_xml(self) -> str:
        return (
            f"<ID>{self.id}</ID><UID>{self.uid}</UID><GID>{min(self.uid, 1)}</GID><UNAME>{escape(self.user)}</UNAME>"
            f"<GNAME>{'users' if self.uid else 'oneadmin'}</GNAME><NAME>{escape(self.name)}</NAME>"
        )

    def template_xml(self, tag: str = "TEMPLATE", only: tuple[str, ...] = ()) -> str:
        kept = [(key, value) for key, value in self.attributes if not only or key in only]
        return f"<{tag}>{''.join(_attribute_xml(key, value) for key, value in kept)}</{tag}>"


@dataclass(kw_only=True)
class Image(Thing):
    type: int
    persistent: int
    path: str
    state: int
    size_mb: int
    datastore: "Datastore"
    polls_left: int
    running: list[int] = field(default_factory=list)

    def xml(self) -> str:
        vms = "".join(f"<ID>{one}</ID>" for one in self.running)
        return (
            f"<IMAGE>{self.owner_xml()}<PERMISSIONS>{_PERMISSIONS}</PERMISSIONS><TYPE>{self.type}</TYPE>"
            f"<DISK_TYPE>0</DISK_TYPE><PERSISTENT>{self.persistent}</PERSISTENT><REGTIME>1764400000</REGTIME>"
            f"<MODTIME>1764400000</MODTIME><SOURCE>/var/lib/one/datastores/{self.datastore.id}/{self.id:032x}</SOURCE>"
            f"<PATH>{escape(self.path)}</PATH><FORMAT>qcow2</FORMAT><FS></FS><SIZE>{self.size_mb}</SIZE>"
            f"<STATE>{self.state}</STATE><PREV_STATE>{self.state}</PREV_STATE>"
            f"<RUNNING_VMS>{len(self.running)}</RUNNING_VMS><CLONING_OPS>0</CLONING_OPS><CLONING_ID>-1</CLONING_ID>"
            f"<TARGET_SNAPSHOT>-1</TARGET_SNAPSHOT><DATASTORE_ID>{self.datastore.id}</DATASTORE_ID>"
            f"<DATASTORE>{escape(self.datastore.name)}</DATASTORE><VMS>{vms}</VMS><CLONES></CLONES>"
            f"<APP_CLONES></APP_CLONES>{self.template_xml()}<SNAPSHOTS><ALLOW_ORPHANS>NO</ALLOW_ORPHANS>"
            "<CURRENT_BASE>-1</CURRENT_BASE><NEXT_SNAPSHOT>0</NEXT_SNAPSHOT></SNAPSHOTS>"
            "<BACKUP_INCREMENTS></BACKUP_INCREMENTS><BACKUP_DISK_IDS></BACKUP_DISK_IDS></IMAGE>"
        )

    pool_xml = xml


@dataclass(kw_only=True)
class Template(Thing):
    def xml(self) -> str:
        return (
            f"<VMTEMPLATE>{self.owner_xml()}<PERMISSIONS>{_PERMISSIONS}</PERMISSIONS>"
            f"<REGTIME>1764400000</REGTIME>{self.template_xml()}</VMTEMPLATE>"
        )

    pool_xml = xml


@dataclass(kw_only=True)
class Range:
    """An address range; `holders` has the VM of each lease in use."""

    id: int
    ip: str
    mac: str
    size: int
    type: str
    others: dict[str, str] = field(default_factory=dict)
    holders: dict[str, int] = field(default_factory=dict)

    def addresses(self) -> list[str]:
        first = IPv4Address(self.ip)
        return [str(first + number) for number in range(self.size)]

    def xml(self, *, is_in_pool: bool) -> str:
        others = "".join(f"<{key}>{escape(value)}</{key}>" for key, value in self.others.items())
        head = (
            f"<AR_ID>{self.id}</AR_ID><IP>{self.ip}</IP><MAC>{self.mac}</MAC><SIZE>{self.size}</SIZE>"
            f"<TYPE>{self.type}</TYPE>{others}"
        )
        if is_in_pool:
            return f"<AR>{head}</AR>"
        leases = "".join(
            f"<LEASE><IP>{ip}</IP><MAC>{self.mac}</MAC><VM>{vm}</VM></LEASE>" for ip, vm in self.holders.items()
        )
        return (
            f"<AR>{head}<MAC_END>{self.mac}</MAC_END><IP_END>{self.addresses()[-1]}</IP_END>"
            f"<USED_LEASES>{len(self.holders)}</USED_LEASES><LEASES>{leases}</LEASES></AR>"
        )


@dataclass(kw_only=True)
class Network(Thing):
    ranges: list[Range]
    state: int
    polls_left: int

    def used(self) -> int:
        return sum(len(one.holders) for one in self.ranges)

    def xml(self) -> str:
        return self._xml(is_in_pool=False)

    def pool_xml(self) -> str:
        return self._xml(is_in_pool=True)

    def _xml(self, *, is_in_pool: bool) -> str:
        ranges = "".join(one.xml(is_in_pool=is_in_pool) for one in self.ranges)
        return (
            f"<VNET>{self.owner_xml()}<PERMISSIONS>{_PERMISSIONS}</PERMISSIONS><CLUSTERS><ID>0</ID></CLUSTERS>"
            f"<BRIDGE>{escape(self.single('BRIDGE'))}</BRIDGE><BRIDGE_TYPE>linux</BRIDGE_TYPE>"
            f"<STATE>{self.state}</STATE><PREV_STATE>{self.state}</PREV_STATE><PARENT_NETWORK_ID></PARENT_NETWORK_ID>"
            f"<TEMPLATE_ID></TEMPLATE_ID><VN_MAD>{escape(self.single('VN_MAD'))}</VN_MAD>"
            f"<PHYDEV>{escape(self.single('PHYDEV'))}</PHYDEV><VLAN_ID></VLAN_ID><OUTER_VLAN_ID></OUTER_VLAN_ID>"
            "<VLAN_ID_AUTOMATIC>0</VLAN_ID_AUTOMATIC><OUTER_VLAN_ID_AUTOMATIC>0</OUTER_VLAN_ID_AUTOMATIC>"
            f"<USED_LEASES>{self.used()}</USED_LEASES><VROUTERS></VROUTERS><UPDATED_VMS></UPDATED_VMS>"
            "<OUTDATED_VMS></OUTDATED_VMS><UPDATING_VMS></UPDATING_VMS><ERROR_VMS></ERROR_VMS>"
            f"{self.template_xml()}<AR_POOL>{ranges}</AR_POOL></VNET>"
        )


@dataclass(kw_only=True)
class Host(Thing):
    im_mad: str
    vm_mad: str

    def xml(self) -> str:
        return (
            f"<HOST><ID>{self.id}</ID><NAME>{escape(self.name)}</NAME><STATE>2</STATE><PREV_STATE>2</PREV_STATE>"
            f"<IM_MAD>{escape(self.im_mad)}</IM_MAD><VM_MAD>{escape(self.vm_mad)}</VM_MAD><CLUSTER_ID>0</CLUSTER_ID>"
            "<CLUSTER>default</CLUSTER><HOST_SHARE><MEM_USAGE>0</MEM_USAGE><CPU_USAGE>0</CPU_USAGE>"
            "<TOTAL_MEM>16777216</TOTAL_MEM><TOTAL_CPU>800</TOTAL_CPU><MAX_MEM>16777216</MAX_MEM>"
            "<MAX_CPU>800</MAX_CPU><RUNNING_VMS>0</RUNNING_VMS><VMS_THREAD>1</VMS_THREAD><DATASTORES></DATASTORES>"
            f"<PCI_DEVICES></PCI_DEVICES><NUMA_NODES></NUMA_NODES></HOST_SHARE><VMS></VMS>{self.template_xml()}"
            "<MONITORING></MONITORING></HOST>"
        )

    pool_xml = xml


@dataclass(kw_only=True)
class Machine(Thing):
    """A virtual machine. Each time that somebody looks at it, it is one state further."""

    state: int
    lcm_state: int
    begun_at: int
    user_attributes: Attributes
    host: str

    def go_on(self) -> None:
        self.state, self.lcm_state = {
            (PENDING, 0): (ACTIVE, PROLOG),
            (ACTIVE, PROLOG): (ACTIVE, BOOT),
            (ACTIVE, BOOT): (ACTIVE, RUNNING),
        }.get((self.state, self.lcm_state), (self.state, self.lcm_state))

    def xml(self) -> str:
        user = Thing(id=0, uid=0, user="", name="", attributes=self.user_attributes)
        return (
            f"<VM>{self.owner_xml()}<PERMISSIONS>{_PERMISSIONS}</PERMISSIONS>{self._state_xml()}"
            f"<DEPLOY_ID>{self._deploy_id()}</DEPLOY_ID><MONITORING>{self._monitoring_xml()}</MONITORING>"
            f"<SCHED_ACTIONS></SCHED_ACTIONS>{self.template_xml()}{user.template_xml('USER_TEMPLATE')}"
            f"<HISTORY_RECORDS>{self._history_xml(is_in_pool=False)}</HISTORY_RECORDS></VM>"
        )

    def pool_xml(self) -> str:
        return (
            f"<VM>{self.owner_xml()}{self._state_xml(is_in_pool=True)}<DEPLOY_ID>{self._deploy_id()}</DEPLOY_ID>"
            f"{self.template_xml(only=('CPU', 'MEMORY', 'VCPU', 'DISK', 'NIC', 'GRAPHICS'))}"
            f"<MONITORING>{self._monitoring_xml()}</MONITORING><USER_TEMPLATE></USER_TEMPLATE>"
            f"<HISTORY_RECORDS>{self._history_xml(is_in_pool=True)}</HISTORY_RECORDS></VM>"
        )

    def _state_xml(self, *, is_in_pool: bool = False) -> str:
        previous = "" if is_in_pool else f"<PREV_STATE>{self.state}</PREV_STATE><PREV_LCM_STATE>0</PREV_LCM_STATE>"
        return (
            f"<LAST_POLL>0</LAST_POLL><STATE>{self.state}</STATE><LCM_STATE>{self.lcm_state}</LCM_STATE>{previous}"
            f"<RESCHED>0</RESCHED><STIME>{self.begun_at}</STIME><ETIME>0</ETIME>"
        )

    def _deploy_id(self) -> str:
        return f"one-{self.id}" if self.lcm_state == RUNNING else ""

    def _monitoring_xml(self) -> str:
        if self.lcm_state != RUNNING:
            return ""
        return (
            f"<CPU>12.5</CPU><ID>{self.id}</ID><MEMORY>524288</MEMORY><NETRX>2048</NETRX><NETTX>1024</NETTX>"
            f"<TIMESTAMP>{self.begun_at + 60}</TIMESTAMP>"
        )

    def _history_xml(self, *, is_in_pool: bool) -> str:
        if self.state != ACTIVE:
            return ""
        head = f"<OID>{self.id}</OID><SEQ>0</SEQ><HOSTNAME>{self.host}</HOSTNAME><HID>0</HID><CID>0</CID>"
        if is_in_pool:
            return (
                f"<HISTORY>{head}<DS_ID>0</DS_ID><VM_MAD>kvm</VM_MAD><TM_MAD>ssh</TM_MAD><ACTION>0</ACTION></HISTORY>"
            )
        times = "".join(f"<{name}>0</{name}>" for name in ("PSTIME", "PETIME", "RSTIME", "RETIME", "ESTIME", "EETIME"))
        return (
            f"<HISTORY>{head}<STIME>{self.begun_at}</STIME><ETIME>0</ETIME><VM_MAD>kvm</VM_MAD><TM_MAD>ssh</TM_MAD>"
            f"<DS_ID>0</DS_ID><PLAN_ID>-1</PLAN_ID><ACTION_ID>-1</ACTION_ID>{times}<ACTION>0</ACTION><UID>-1</UID>"
            "<GID>-1</GID><REQUEST_ID>-1</REQUEST_ID></HISTORY>"
        )


@dataclass(kw_only=True)
class Datastore(Thing):
    type: int

    def pool_xml(self) -> str:
        return (
            f"<DATASTORE>{self.owner_xml()}<PERMISSIONS>{_PERMISSIONS}</PERMISSIONS><DS_MAD>fs</DS_MAD>"
            f"<TM_MAD>ssh</TM_MAD><BASE_PATH>/var/lib/one/datastores/{self.id}</BASE_PATH><TYPE>{self.type}</TYPE>"
            "<DISK_TYPE>0</DISK_TYPE><STATE>0</STATE><CLUSTERS><ID>0</ID></CLUSTERS><TOTAL_MB>100000</TOTAL_MB>"
            f"<FREE_MB>90000</FREE_MB><USED_MB>10000</USED_MB><IMAGES></IMAGES>{self.template_xml()}</DATASTORE>"
        )


def _attribute_xml(key: str, value: Value) -> str:
    def text(one: str) -> str:
        return f"<![CDATA[{one}]]>"

    if isinstance(value, str):
        return f"<{key}>{text(value)}</{key}>"
    return f"<{key}>{''.join(f'<{name}>{text(one)}</{name}>' for name, one in value.items())}</{key}>"


def owned_by(things: Mapping[int, Thing], uid: int) -> Iterator[Thing]:
    """The things of one user, in the order of their ids."""
    return (thing for _, thing in sorted(things.items()) if thing.uid == uid)
