"""nexus_graph: an identity graph that explains itself."""

__version__: str


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415 - it takes as long as a quarter of `--help`, which needs none

        return version("nexus-graph")
    raise AttributeError(name)
