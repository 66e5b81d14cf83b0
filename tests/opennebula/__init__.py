"""A strict stand-in for `oned` on loopback, and the tests of what talks to it."""
