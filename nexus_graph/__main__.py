"""python -m nexus_graph, and the nexus-graph command."""

from nexus_graph.cli import app


def main() -> None:
    """Run the command line."""
    app(prog_name="nexus-graph")


if __name__ == "__main__":
    main()
