"""Measurements against peers, for people to read: `make bench`."""
