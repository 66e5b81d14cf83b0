#!/bin/sh
# The hosts of the cluster squirrel, for OpenNebula 6.0 to 7.x.
# Run it once as oneadmin, in the directory that it is in. Nothing of it has been tried with a real oned.
set -eu

# The machines that run the local guests (recipes/cluster.yaml, opennebula: hosts:)
# onehost create HOST --im kvm --vm kvm

# EC2: OpenNebula 6.0 came without the driver that started instances, 7.0 removed what was left of it. In
# its place OneProvision (6.x) or OneForm (since 7.2) rents whole machines at a cloud as KVM hosts; they run
# guests such as worker.template, not AMIs. This starts an instance of the AMI, as the driver did:
#   aws ec2 run-instances --region eu-west-1 \
#     --image-id ami-0123456789abcdef0 --instance-type t3.small --count 1 --key-name gsg-keypair
onehost list

onevnet create squirrel-private.net
onevnet create squirrel-public.net

# The images hold the VPN's keys, so only their owner can read them: give oneadmin the right to,
# and nobody else in OpenNebula (an image is private until `oneimage chmod`).
oneimage create --datastore default oneserver.image
oneimage create --datastore default local01.image
oneimage create --datastore default worker.image

onetemplate create oneserver.template
onetemplate create local01.template
onetemplate create worker.template

# As often as a machine is to run: onetemplate instantiate NAME
