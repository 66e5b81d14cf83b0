"""Xen: configurations that start the images."""
