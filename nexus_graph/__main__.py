"""python -m nexus_graph, and the nexus-graph command."""

import sys

from nexus_graph.cli import app


def main() -> None:
    """Run the command line. Whatever goes wrong, it ends with a line and never with a traceback."""
    try:
        app(prog_name="nexus-graph")
    except Exception as error:  # noqa: BLE001 - the last to catch it
        from nexus_graph.failures import CANNOT_GO_ON, say, why

        say(why(error))
        sys.exit(CANNOT_GO_ON)


if __name__ == "__main__":
    main()
