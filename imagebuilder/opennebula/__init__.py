"""OpenNebula: templates for the cluster's machines, in the language of three generations of releases."""
