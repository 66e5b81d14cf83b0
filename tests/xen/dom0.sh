#!/bin/sh
# The first process of dom0: starts Xen's daemons and one guest, and says what it sees of it.
#
# Everything of the guest is on the disk that holds this script, as tests/xen/job_disk.py puts it there. The first
# serial line has Xen's words, the kernel's and those of this script; the second is the guest's console.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PATH
job=${0%/*}
# What job_disk.py says.
name='' command='' store='' bridges='' addresses=''
# shellcheck source=/dev/null
. "$job/settings"

say() {
	echo "dom0: $*"
}

# There is no udev, which would do this.
prepare_devices() {
	ln -sfn /proc/self/fd /dev/fd
	ln -sf /proc/self/fd/0 /dev/stdin
	ln -sf /proc/self/fd/1 /dev/stdout
	ln -sf /proc/self/fd/2 /dev/stderr
	mkdir -p /dev/pts
	mount -t devpts devpts /dev/pts
	# xen-blkfront: to read the boot loader's files in a qcow2 image, xl has QEMU give the disk to dom0 itself.
	modprobe -a loop bridge xen-netback xen-blkback xen-blkfront xen-evtchn xen-gntdev
}

make_bridges() { # BRIDGE=ADDRESS/LENGTH...
	for one; do
		ip link add "${one%=*}" type bridge
		ip address add "${one#*=}" dev "${one%=*}"
		ip link set "${one%=*}" up
	done
}

# libxl ends a hotplug script that takes longer than 40 s, as one may on a busy machine. Hence a second try.
create() {
	for try in first second; do
		say "$command"
		$command && return
		say "the $try time it failed"
		tail -n 30 /var/log/xen/*.log
		xl destroy "$name"
	done
	say "gives up"
	wait_for_ever
}

# Ends when each address has answered: who has it, and whether it answers pings.
look_for() { # BRIDGE=ADDRESS...
	for one; do
		until answer=$(arping -c 1 -w 5 -I "${one%=*}" "${one#*=}" | sed -n 's/.* reply from .*\[\(.*\)\].*/\1/p') &&
			[ "$answer" ] && ping -q -c 1 -W 5 "${one#*=}" >/dev/null; do
			sleep 2
		done
		say "${one#*=} on ${one%=*} is $answer, which answers pings"
	done
	say "every address has answered"
}

wait_for_ever() {
	exec sleep infinity
}

say "Linux is up"
prepare_devices
# The guest's configuration names its disk by the path it has on the machine that built it.
mkdir -p "${store%/*}" /var/log/xen /run/lock
ln -sfn "$job/store" "$store"
hostname dom0
ip link set lo up # where the screen of an hvm guest is shown
# shellcheck disable=SC2086 # they are words
make_bridges $bridges
sh /etc/init.d/xen start
say "xl info"
xl info | grep -E '^(release|xen_version|virt_caps|free_memory)'
say "Xen is ready"
create
say "xl list"
xl list
# shellcheck disable=SC2086 # they are words
look_for $addresses &
stty -F /dev/ttyS1 raw -echo
xl console "$name" </dev/ttyS1 >/dev/ttyS1
say "the console of $name has ended"
tail -n 30 /var/log/xen/*.log
wait_for_ever
