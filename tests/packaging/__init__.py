"""What is built from the tree, and what it does where it is installed."""
