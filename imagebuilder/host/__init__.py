"""What this machine can do: which accelerator runs guests here, and whether all that a build needs is present."""
