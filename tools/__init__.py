"""What the Makefile and the tests use and the library does not."""
