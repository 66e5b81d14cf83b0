#!/bin/sh
# The hosts of the cluster squirrel, for OpenNebula 1.0 to 2.2.
# Run it once as oneadmin, in the directory that it is in. Nothing of it has been tried with a real oned.
set -eu

# etc/oned.conf must start the drivers im_xen, vmm_xen, im_ec2 and vmm_ec2; etc/im_ec2/im_ec2.conf says how
# many instances there may be. EC2's tools need EC2_HOME, EC2_PRIVATE_KEY and EC2_CERT in the environment.
# Since 1.2 the driver that moves images follows: onehost create ec2 im_ec2 vmm_ec2 tm_nfs

# The machines that run the local guests (recipes/cluster.yaml, opennebula: hosts:)
# onehost create HOST im_xen vmm_xen

# EC2
onehost create ec2 im_ec2 vmm_ec2
onehost list

onevm create oneserver.template
onevm create local01.template
onevm create worker.template
onevm list
