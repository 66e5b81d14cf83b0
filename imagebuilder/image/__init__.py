"""Disk images: the appliance, bases, builds and the store."""
