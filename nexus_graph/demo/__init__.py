"""The demonstration: half a year of contact events at seven invented shops.

scripts/make_demo_data.py makes `events.csv`; a test compares the file with the script's output byte for byte.
"""

from nexus_graph.demo.tour import run

__all__ = ["run"]
