"""A pytest plugin: a property that fails has failed, and nobody waits for the smallest example."""

from hypothesis import Phase, settings

settings.register_profile("unshrunk", phases=[Phase.generate])
settings.load_profile("unshrunk")
