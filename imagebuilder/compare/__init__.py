"""What two images differ in."""
