"""Families remembered for readers, in two levels: this process's memory, and Redis for all processes.

identify never reads them. A reader that demands a version or a store never gets an older family or another store's. A
cached family may be stale for `cache_process_seconds` after the relay has announced the change, and for `cache_seconds`
(and a fifth) at most if neither writer nor relay can reach Redis while a reader can.
"""
