"""What the Makefile leans on."""
