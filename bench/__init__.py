"""The benchmark: what nexus_graph does in a second, next to the limits of the machine it ran on."""
