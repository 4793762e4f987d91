"""Natural batching (`gatherer`), and its limits (`bounds`), which `Settings` makes."""
