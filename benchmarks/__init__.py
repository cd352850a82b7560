"""How much pagews costs, beside a plain aiohttp WebSocket and python-socketio.

``python -m benchmarks`` measures everything and takes some minutes; ``python -m benchmarks broadcast burst --quick``
measures some of it on fewer pages, to see whether a change helped. `docs/explanation/measurements.md` says what the
figures mean and why they are taken as they are.

Machines are noisy, so nothing is judged by itself. In each round all servers are up at once, each in a process of its
own on one core, and take turns in short slices; the load client has another core. What is compared are the values of
one cycle, in which each server had its slice: the table shows the median of all cycles and, in brackets, the quartiles.

What is counted is the CPU time (user and system) that the operating system booked to the server process, divided by
the messages that the load client received. The load client is another process; it checks that every connection
received every number once and in order, and the run fails when one did not.
"""
