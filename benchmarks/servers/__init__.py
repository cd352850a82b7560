"""The servers that are measured, each a process of its own, told what to do on its standard input."""
