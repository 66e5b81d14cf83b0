#!/bin/sh
# The hosts of the cluster squirrel, for OpenNebula 4.14 to 5.12.
# Run it once as oneadmin, in the directory that it is in. Nothing of it has been tried with a real oned.
set -eu

# The machines that run the local guests (recipes/cluster.yaml, opennebula: hosts:)
# onehost create HOST --im kvm --vm kvm

# EC2: /etc/one/oned.conf must have IM_MAD and VM_MAD of the name ec2 (they are there as comments).
# ec2host.tpl, mode 0600, holds three lines, of which the secret ones are yours to write:
#   EC2_ACCESS  = "…"
#   EC2_SECRET  = "…"
#   REGION_NAME = "eu-west-1"
# Before 5.4 they stand in /etc/one/ec2_driver.conf instead, and there is no --type:
#   onehost create ec2 --im ec2 --vm ec2
onehost create ec2 --type ec2 ec2host.tpl --im ec2 --vm ec2
onehost list

onevnet create squirrel-private.net
onevnet create squirrel-public.net

# The images hold the VPN's keys, so only their owner can read them: give oneadmin the right to,
# and nobody else in OpenNebula (an image is private until `oneimage chmod`).
oneimage create --datastore default oneserver.image
oneimage create --datastore default local01.image

onetemplate create oneserver.template
onetemplate create local01.template
onetemplate create worker.template

# As often as a machine is to run: onetemplate instantiate NAME
