"""The tests, each file named for the module or the subject that it covers."""
