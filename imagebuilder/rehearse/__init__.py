"""Boots the built images together, on networks of their own, and proves that the cluster works."""
