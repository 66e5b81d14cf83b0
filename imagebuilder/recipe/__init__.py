"""YAML in, a checked description of the cluster out: every value knows its place."""
