"""How much pagews costs, beside a plain aiohttp WebSocket and python-socketio.

``python -m benchmarks`` measures everything and takes some minutes; ``python -m benchmarks broadcast burst --quick``
measures some of it on fewer pages, to see whether a change helped.

Machines are noisy, so nothing is judged by itself. Each server is a process of its own, one is measured at a time, the
servers take turns in every round, and goals are about ratios within a round: the table shows the median of the
rounds and, in brackets, the lowest and the highest. What is counted is the CPU time (user and system) that the
operating system booked to the server process, divided by the messages that the load client received. The load client
is another process; it checks that every connection received every number once and in order, and the run fails when
one did not.
"""
