"""Python's collector of cycles, in processes that serve for long."""

import gc
from typing import Final

_YOUNG_OBJECTS: Final = 20_000
"""A request leaves a few hundred, nearly all of them gone with it: the default, 700, looked after every second one."""


def freeze_gc() -> None:
    """Let it look only at what work leaves behind. Call it once everything is loaded that stays for ever.

    Modules, the schema, the tables of phone numbers: walking them all stopped every request for 60 ms, each second.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS)
