"""nexus_graph: an identity graph that explains itself."""

from importlib.metadata import version

__version__ = version("nexus-graph")
