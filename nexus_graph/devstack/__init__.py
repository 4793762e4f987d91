"""The servers and processes that `nexus-graph up` runs on one machine, and their supervision."""
