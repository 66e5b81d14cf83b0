"""The attributes of OpenNebula 4.14 to 5.12, which has the driver for EC2, and of 6.0 to 7.x, which has none."""

from itertools import product

from imagebuilder.opennebula.attributes import Attribute, Table, rows

_CAPACITY = "Virtual Machine Template, Capacity"
_OS = "Virtual Machine Template, OS and Boot Options"
_FEATURES = "Virtual Machine Template, Features"
_DISKS = "Virtual Machine Template, Disks"
_NETWORK = "Virtual Machine Template, Network"
_DEVICES = "Virtual Machine Template, I/O Devices"
_CONTEXT = "Virtual Machine Template, Context"
_PLACEMENT = "Virtual Machine Template, Placement"
_HYPERVISOR = "Virtual Machine Template, Hypervisor"
_RESTRICTED = "Virtual Machine Template, Restricted Attributes"
_EC2 = "Amazon EC2 Driver 5.12; one, src/vmm_mad/remotes/ec2/ec2_driver.rb"
_IMAGE = "Image Template"
_VNET = "Virtual Network Template, Physical Network"
_RANGE = "Virtual Network Template, Address Range"
_VNET_CONTEXT = "Virtual Network Template, Contextualization"

_QOS = ("INBOUND_AVG_BW", "INBOUND_PEAK_BW", "INBOUND_PEAK_KB", "OUTBOUND_AVG_BW", "OUTBOUND_PEAK_BW")
_BANDWIDTH = (*_QOS, "OUTBOUND_PEAK_KB")
_THROTTLES = tuple(
    f"{which}_{unit}_SEC{limit}"
    for which, unit, limit in product(("TOTAL", "READ", "WRITE"), ("BYTES", "IOPS"), ("", "_MAX", "_MAX_LENGTH"))
)
_FOR_GUESTS = (
    *("NETWORK_ADDRESS ip", "NETWORK_MASK ip", "GATEWAY ip", "GATEWAY6 text", "DNS text", "GUEST_MTU integer"),
    *("METRIC integer", "IP6_METRIC integer", "METHOD static|dhcp|skip", "IP6_METHOD text", "SEARCH_DOMAIN text"),
)


def _integers(vector: str, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{vector}{name} integer" for name in names)


_COMMON: tuple[Attribute, ...] = (
    *rows(_CAPACITY, "NAME text", "MEMORY! integer", "CPU! decimal", "VCPU integer"),
    *rows(_CAPACITY, "DESCRIPTION text", "MEMORY_COST decimal", "CPU_COST decimal", "DISK_COST decimal"),
    *rows(_OS, "OS vector", "OS.ARCH text", "OS.MACHINE text", "OS.KERNEL path", "OS.KERNEL_DS text", "OS.INITRD path"),
    *rows(_OS, "OS.INITRD_DS text", "OS.ROOT text", "OS.KERNEL_CMD text", "OS.BOOTLOADER path", "OS.BOOT boot"),
    *rows(_OS, "OS.UUID text", "OS.SD_DISK_BUS scsi|sata", "CPU_MODEL vector", "CPU_MODEL.MODEL text"),
    *rows(_FEATURES, "FEATURES vector", "FEATURES.PAE yes|no", "FEATURES.ACPI yes|no", "FEATURES.APIC yes|no"),
    *rows(_FEATURES, "FEATURES.LOCALTIME yes|no", "FEATURES.HYPERV yes|no", "FEATURES.GUEST_AGENT yes|no"),
    *rows(_FEATURES, "FEATURES.VIRTIO_SCSI_QUEUES text", "FEATURES.IOTHREADS integer"),
    *rows(_DISKS, "DISK* vector", "DISK.IMAGE_ID integer", "DISK.IMAGE text", "DISK.IMAGE_UID integer"),
    *rows(_DISKS, "DISK.IMAGE_UNAME text", "DISK.DEV_PREFIX hd|sd|vd|xvd", "DISK.TARGET device", "DISK.DRIVER text"),
    *rows(_DISKS, "DISK.CACHE default|none|writethrough|writeback|directsync|unsafe", "DISK.READONLY yes|no"),
    *rows(_DISKS, "DISK.IO threads|native", "DISK.DISCARD ignore|unmap|discard", "DISK.DISK_TYPE block|cdrom|file|rbd"),
    *rows(_DISKS, "DISK.TYPE swap|fs", "DISK.SIZE integer", "DISK.FORMAT text", "DISK.FS text"),
    *rows(_DISKS, "DISK.IOTHREAD integer", *_integers("DISK.", (*_THROTTLES, "SIZE_IOPS_SEC"))),
    *rows(_NETWORK, "NIC* vector", "NIC.NETWORK_ID integer", "NIC.NETWORK text", "NIC.NETWORK_UID integer"),
    *rows(_NETWORK, "NIC.NETWORK_UNAME text", "NIC.IP ip", "NIC.MAC mac", "NIC.BRIDGE text", "NIC.TARGET text"),
    *rows(_NETWORK, "NIC.SCRIPT path", "NIC.MODEL text", "NIC.FILTER text", "NIC.SECURITY_GROUPS text"),
    *rows(_NETWORK, "NIC.NETWORK_MODE auto|dummy", "NIC.SCHED_REQUIREMENTS text", "NIC.SCHED_RANK text"),
    *rows(_NETWORK, "NIC.NAME text", *_integers("NIC.", _BANDWIDTH), *(f"NIC.{one}" for one in _FOR_GUESTS)),
    *rows(_NETWORK, "NIC_DEFAULT vector", "NIC_DEFAULT.MODEL text", "NIC_DEFAULT.FILTER text"),
    *rows(_NETWORK, "NIC_ALIAS* vector", "NIC_ALIAS.NETWORK text", "NIC_ALIAS.NETWORK_ID integer", "NIC_ALIAS.IP ip"),
    *rows(_NETWORK, "NIC_ALIAS.PARENT! text", "NIC_ALIAS.NAME text", "NIC_ALIAS.NETWORK_UNAME text"),
    *rows(_RESTRICTED, "NIC.VLAN_ID integer", "NIC.FILTER_IP_SPOOFING yes|no", "NIC.FILTER_MAC_SPOOFING yes|no"),
    *rows(_DEVICES, "INPUT* vector", "INPUT.TYPE mouse|tablet", "INPUT.BUS usb|ps2", "GRAPHICS vector"),
    *rows(_DEVICES, "GRAPHICS.TYPE! vnc|sdl|spice", "GRAPHICS.LISTEN ip", "GRAPHICS.PORT integer"),
    *rows(_DEVICES, "GRAPHICS.PASSWD text", "GRAPHICS.KEYMAP text", "GRAPHICS.RANDOM_PASSWD yes|no"),
    *rows(_CONTEXT, "CONTEXT vector", "CONTEXT.NETWORK yes|no", "CONTEXT.SSH_PUBLIC_KEY text"),
    *rows(_CONTEXT, "CONTEXT.SET_HOSTNAME text", "CONTEXT.DNS_HOSTNAME yes|no", "CONTEXT.DNS text"),
    *rows(_CONTEXT, "CONTEXT.FILES text", "CONTEXT.FILES_DS text", "CONTEXT.INIT_SCRIPTS text"),
    *rows(_CONTEXT, "CONTEXT.START_SCRIPT text", "CONTEXT.START_SCRIPT_BASE64 text", "CONTEXT.TARGET device"),
    *rows(_CONTEXT, "CONTEXT.DEV_PREFIX text", "CONTEXT.TOKEN yes|no", "CONTEXT.ONEGATE_ENDPOINT text"),
    *rows(_CONTEXT, "CONTEXT.REPORT_READY text", "CONTEXT.READY_SCRIPT text", "CONTEXT.READY_SCRIPT_PATH path"),
    *rows(_CONTEXT, "CONTEXT.USERNAME text", "CONTEXT.PASSWORD text", "CONTEXT.PASSWORD_BASE64 text"),
    *rows(_CONTEXT, "CONTEXT.CRYPTED_PASSWORD text", "CONTEXT.CRYPTED_PASSWORD_BASE64 text"),
    *rows(_CONTEXT, "CONTEXT.SECURETTY yes|no", "CONTEXT.TIMEZONE text", "CONTEXT.GROW_ROOTFS yes|no"),
    *rows(_CONTEXT, "CONTEXT.GROW_FS text", "CONTEXT.NETCFG_TYPE text", "CONTEXT.IGNORE_SWAP yes|no"),
    *rows(_PLACEMENT, "SCHED_REQUIREMENTS text", "SCHED_RANK text", "SCHED_DS_REQUIREMENTS text"),
    *rows(_PLACEMENT, "SCHED_DS_RANK text", "USER_PRIORITY integer", "USER_INPUTS vector", "INPUTS_ORDER text"),
    *rows(_HYPERVISOR, "RAW vector", "RAW.TYPE! kvm|lxc|vmware|xen", "RAW.DATA text", "RAW.DATA_VMX text"),
    *rows(_HYPERVISOR, "EMULATOR path"),
)

_SINCE_6: tuple[Attribute, ...] = (
    *rows(_OS, "OS.FIRMWARE text", "OS.FIRMWARE_FORMAT qcow2|raw", "OS.FIRMWARE_SECURE true|false|yes|no"),
    *rows(_FEATURES, "FEATURES.VIRTIO_BLK_QUEUES text", "FEATURES.MIGRATE_AUTO_CONVERGE text"),
    *rows(_FEATURES, "FEATURES.MIGRATE_COMPRESSED yes|no", "CPU_MODEL.FEATURES text"),
    *rows(_DISKS, "DISK.VIRTIO_BLK_QUEUES text", "DISK.SERIAL text"),
    *rows(_DEVICES, "VIDEO vector", "VIDEO.TYPE! none|vga|vnc|cirrus|virtio", "VIDEO.IOMMU yes|no", "VIDEO.ATS yes|no"),
    *rows(_DEVICES, "VIDEO.VRAM integer", "VIDEO.RESOLUTION text"),
    *rows(_HYPERVISOR, "RAW.VALIDATE yes|no"),
    *rows(_CONTEXT, "CONTEXT.NETCFG_NETPLAN_RENDERER text", "CONTEXT.RECREATE_RUN yes|no"),
)

_PUBLIC_CLOUD = rows(
    _EC2,
    *("PUBLIC_CLOUD* vector", "PUBLIC_CLOUD.TYPE! ec2|azure|opennebula", "PUBLIC_CLOUD.AMI ami"),
    *(f"PUBLIC_CLOUD.{name} text" for name in ("AKI", "CLIENTTOKEN", "INSTANCETYPE", "KEYPAIR", "LICENSEPOOL")),
    *(f"PUBLIC_CLOUD.{name} text" for name in ("PLACEMENTGROUP", "PRIVATEIP", "RAMDISK", "SUBNETID", "TENANCY")),
    *(f"PUBLIC_CLOUD.{name} text" for name in ("USERDATA", "SECURITYGROUPS", "SECURITYGROUPIDS", "TAGS", "HOST")),
    *(f"PUBLIC_CLOUD.{name} text" for name in ("AVAILABILITYZONE", "EBS_OPTIMIZED", "BLOCKDEVICEMAPPING")),
    *("PUBLIC_CLOUD.ELASTICIP text", "PUBLIC_CLOUD.CLOUD_INIT yes|no|true|false"),
)

_OPEN = frozenset({"CONTEXT", "USER_INPUTS"})
VM_OF_5 = Table(attributes=(*_COMMON, *_PUBLIC_CLOUD), open_vectors=_OPEN)
VM = Table(attributes=(*_COMMON, *_SINCE_6), open_vectors=_OPEN)

_IMAGE_ROWS = rows(
    _IMAGE,
    *("NAME! text", "DESCRIPTION text", "TYPE os|cdrom|datablock|kernel|ramdisk|context", "PERSISTENT yes|no"),
    *("PERSISTENT_TYPE immutable|shareable", "DEV_PREFIX hd|sd|vd|xvd", "TARGET device", "DRIVER text", "PATH path"),
    *("SOURCE text", "DISK_TYPE block|cdrom|file", "READONLY yes|no", "MD5 text", "SHA1 text", "SIZE integer"),
)
IMAGE_OF_5 = Table(attributes=(*_IMAGE_ROWS, *rows(_IMAGE, "FSTYPE text")))
IMAGE = Table(attributes=(*_IMAGE_ROWS, *rows(_IMAGE, "FORMAT raw|qcow2", "FS text")))

NETWORK = Table(
    attributes=(
        *rows(_VNET, "NAME! text", "VN_MAD! text", "BRIDGE text", "VLAN_ID integer", "AUTOMATIC_VLAN_ID yes|no"),
        *rows(_VNET, "PHYDEV text", "DESCRIPTION text", "SECURITY_GROUPS text", "VLAN_TAGGED_ID text"),
        *rows(_VNET, "FILTER_IP_SPOOFING yes|no", "FILTER_MAC_SPOOFING yes|no", "CONF text", "BRIDGE_CONF text"),
        *rows(_VNET, "OVS_BRIDGE_CONF text", "IP_LINK_CONF text", *_integers("", _BANDWIDTH)),
        *rows(_VNET_CONTEXT, *_FOR_GUESTS),
        *rows(_RANGE, "AR* vector", "AR.TYPE! ip4|ip6|ip6_static|ip4_6|ip4_6_static|ether", "AR.IP ip", "AR.MAC mac"),
        *rows(_RANGE, "AR.SIZE integer", "AR.IP6 text", "AR.GLOBAL_PREFIX text", "AR.ULA_PREFIX text"),
        *rows(_RANGE, "AR.PREFIX_LENGTH integer", "AR.IPAM_MAD text", *(f"AR.{one}" for one in _FOR_GUESTS)),
    )
)
