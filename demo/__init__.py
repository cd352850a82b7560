"""A site that shows what pagews does, one small module a panel, on the public API only.

Run it with ``python -m demo`` from a checkout.
"""
