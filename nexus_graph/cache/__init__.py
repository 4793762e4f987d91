"""Families remembered for readers, in two levels: this process's memory, and Redis for all processes.

identify never asks them. A reader that demands a version, or a store, is never answered by an older family or another
store. What is kept may be stale for as long as `cache_process_seconds` past the relay's word of a change, and no longer
than `cache_seconds` (and a fifth) if neither the writer nor the relay can reach Redis while a reader can.
"""
