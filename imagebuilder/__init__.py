"""imgbuild: from one description of a hybrid cluster, the disk images of its machines."""

__version__ = "0.1.0"
