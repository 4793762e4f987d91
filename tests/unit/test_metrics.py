"""Metrics: many amounts at once are counted as each by itself would be."""

import random

from prometheus_client import CollectorRegistry, Histogram

from nexus_graph.telemetry import ManyAtOnce

BUCKETS = (0.001, 0.25, 1, 2.5)


def test_many_amounts_at_once_count_as_each_by_itself(rng: random.Random) -> None:
    amounts = [*BUCKETS, 0.0, 100.0, *(rng.expovariate(1) for _ in range(200))]
    each, together = CollectorRegistry(), CollectorRegistry()
    histogram = Histogram("seconds", "x", ["route"], buckets=BUCKETS, registry=each).labels("/x")
    for amount in amounts:
        histogram.observe(amount)
    ManyAtOnce("seconds", "x", ["route"], buckets=BUCKETS, registry=together).labels("/x").observe_all(amounts)
    assert _counted(together) == _counted(each)


def _counted(registry: CollectorRegistry) -> list[tuple[str, dict[str, str], float]]:
    return [
        (sample.name, dict(sample.labels), round(sample.value, 9))
        for metric in registry.collect()
        for sample in metric.samples
        if not sample.name.endswith("_created")
    ]
