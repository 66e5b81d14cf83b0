"""The attributes of OpenNebula 1.0 to 2.2."""

from imagebuilder.opennebula.attributes import Table, rows

_SCHEMA = "one, share/examples/vm.schema (1.x)"
_GUIDE = "Virtual Machine Definition File 1.4"
_EC2 = "one, src/vmm/EC2Driver.cc (2008)"
_TUTORIAL = "the tutorial of 2008, EC2 driver"
_NETWORK = "one, share/examples/private.net, public.net (1.x)"

VM = Table(
    attributes=(
        *rows(_SCHEMA, "NAME text", "CPU! decimal", "MEMORY! integer", "VCPU integer", "OS vector", "FEATURES vector"),
        *rows(_SCHEMA, "DISK* vector", "NIC* vector", "INPUT* vector", "GRAPHICS vector", "RAW* vector"),
        *rows(_SCHEMA, "CONTEXT vector", "REQUIREMENTS text", "RANK text"),
        *rows(_EC2, "EC2* vector", "EC2.AMI! ami", "EC2.KEYPAIR text", "EC2.ELASTICIP ip", "EC2.INSTANCETYPE text"),
        *rows(_EC2, "EC2.AUTHORIZEDPORTS ports"),
        *rows(_TUTORIAL, "EC2.AUTHORIZED_PORTS ports"),
        *rows(_SCHEMA, "OS.KERNEL path", "OS.INITRD path", "OS.ROOT text", "OS.KERNEL_CMD text", "OS.BOOT text"),
        *rows(_GUIDE, "OS.BOOTLOADER path", "OS.ARCH text"),
        *rows(_SCHEMA, "FEATURES.PAE yes|no", "FEATURES.ACPI yes|no"),
        *rows(_SCHEMA, "DISK.TYPE floppy|disk|cdrom|swap|fs|block", "DISK.SOURCE path", "DISK.SIZE integer"),
        *rows(_SCHEMA, "DISK.TARGET! device", "DISK.BUS ide|scsi|virtio|xen", "DISK.READONLY yes|no"),
        *rows(_SCHEMA, "DISK.CLONE yes|no", "DISK.SAVE text"),
        *rows(_GUIDE, "DISK.FORMAT text", "DISK.DRIVER text", "DISK.IMAGE text", "DISK.IMAGE_ID integer"),
        *rows(_SCHEMA, "NIC.NETWORK text", "NIC.IP ip", "NIC.BRIDGE text", "NIC.TARGET text", "NIC.MAC mac"),
        *rows(_SCHEMA, "NIC.SCRIPT path"),
        *rows(_GUIDE, "NIC.MODEL text", "NIC.NETWORK_ID integer"),
        *rows(_SCHEMA, "INPUT.TYPE mouse|tablet", "INPUT.BUS usb|ps2|xen"),
        *rows(_SCHEMA, "GRAPHICS.TYPE vnc|sdl", "GRAPHICS.LISTEN ip", "GRAPHICS.PORT integer", "GRAPHICS.PASSWD text"),
        *rows(_GUIDE, "GRAPHICS.KEYMAP text"),
        *rows(_SCHEMA, "RAW.TYPE! xen|kvm", "RAW.DATA! text"),
        *rows(_SCHEMA, "CONTEXT.FILES text", "CONTEXT.TARGET device"),
    ),
    open_vectors=frozenset({"CONTEXT"}),
)

NETWORK = Table(
    attributes=(
        *rows(_NETWORK, "NAME! text", "TYPE! ranged|fixed", "BRIDGE! text", "NETWORK_SIZE text", "NETWORK_ADDRESS ip"),
        *rows(_NETWORK, "LEASES* vector", "LEASES.IP! ip", "LEASES.MAC mac"),
    )
)

IMAGE = Table(
    attributes=rows(
        "Image Definition Template 2.0 (the first with images)",
        *("NAME! text", "DESCRIPTION text", "TYPE os|cdrom|datablock", "PUBLIC yes|no", "PERSISTENT yes|no"),
        *("DEV_PREFIX text", "BUS text", "PATH path", "SOURCE path", "SIZE integer", "FSTYPE text"),
    )
)
