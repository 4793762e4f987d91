"""How a command ends: with an exit code and, if it cannot go on, one line on stderr and no traceback."""

from collections.abc import Callable
from typing import Final

from nexus_graph import telemetry
from nexus_graph.config import Settings
from nexus_graph.failures import say, why

CANNOT_GO_ON: Final = 1


def without_traceback(settings: Settings, command: Callable[[], int]) -> int:
    """The command's exit code; 1, with the reason on stderr, if it cannot go on."""
    telemetry.configure_logging(settings.log_level)
    try:
        return command()
    except BrokenPipeError:
        raise  # the reader of the output has closed the pipe
    except Exception as error:  # noqa: BLE001 - every error becomes one sentence for the user
        say(why(error, settings))
        return CANNOT_GO_ON
