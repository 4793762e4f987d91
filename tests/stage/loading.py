"""Files of contacts, and the commands that take them in."""

import asyncio
import csv
import os
import random
import signal
import sys
from pathlib import Path

from nexus_graph.config import Settings
from tests.stage.graphing import Pair


def write(file: Path, pairs: list[Pair]) -> Path:
    with file.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("email", "phoneNumber"), *pairs])
    return file


def random_pairs(seed: int, rows: int, keys: int) -> list[Pair]:
    """Chains, unions and repeats: many rows over few identifiers, often close to one another."""
    dice = random.Random(seed)
    pairs: list[Pair] = []
    while len(pairs) < rows:
        if pairs and dice.random() < 0.2:
            pairs.append(pairs[-dice.randint(1, min(len(pairs), 20))])
            continue
        email = f"e{dice.randrange(keys)}@example.com" if dice.random() < 0.85 else None
        phone = f"44770090{dice.randrange(keys):04}" if email is None or dice.random() < 0.85 else None
        pairs.append((email, phone))
    return pairs


async def command(settings: Settings, *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the nexus-graph command."""
    process = await start(settings, *arguments)
    answer, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, answer.decode(), errors.decode()


async def start(settings: Settings, *arguments: str, **environment: str) -> asyncio.subprocess.Process:
    servers = {
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "REDIS_URL": settings.redis_url.get_secret_value(),
        "NEO4J_URI": settings.neo4j_uri,
        "NEO4J_USER": settings.neo4j_user,
        "NEO4J_PASSWORD": settings.neo4j_password.get_secret_value(),
    }
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "nexus_graph", *arguments),
        env={**os.environ, **servers, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # A shell that runs the tests in the background makes all its children deaf to Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
