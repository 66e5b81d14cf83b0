"""What Amazon EC2 gets: snapshots, AMIs and bundles."""
