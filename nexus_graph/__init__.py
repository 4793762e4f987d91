"""nexus_graph: an identity graph that explains itself."""

__version__: str


def __getattr__(name: str) -> str:
    if name == "__version__":  # asked for by few, and finding it takes a quarter of what `--help` does
        from importlib.metadata import version  # noqa: PLC0415

        return version("nexus-graph")
    raise AttributeError(name)
