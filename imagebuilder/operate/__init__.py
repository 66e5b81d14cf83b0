"""Looks at a cluster that runs: what its server says of the queue, the jobs and the workers."""
