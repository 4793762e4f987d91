"""The demonstration: half a year of contact events at seven shops that nobody has ever been to.

`events.csv` is made by scripts/make_demo_data.py; a test compares the two byte for byte.
"""

from nexus_graph.demo.tour import run

__all__ = ["run"]
