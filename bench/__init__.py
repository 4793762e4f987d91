"""The benchmark: what nexus_graph does in a second, beside the limits of the machine it ran on."""
