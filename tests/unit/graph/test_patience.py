"""How long a reader waits for the graph: longer where walks usually take longer, within two bounds."""

from nexus_graph.graph.reads import Patience


def test_before_any_walk_it_is_the_longest() -> None:
    assert Patience(0.1, most_seconds=2.0).seconds == 0.2


def test_it_is_never_less_than_the_least_nor_more_than_the_most() -> None:
    patience = Patience(0.1, most_seconds=2.0)
    for _ in range(100):
        patience.learn(0.001)
    assert patience.seconds == 0.1
    for _ in range(100):
        patience.learn(1.0)
    assert patience.seconds == 0.2
    assert Patience(3.0, most_seconds=2.0).seconds == 2.0


def test_it_follows_what_is_usual_and_how_far_that_varies() -> None:
    patience = Patience(0.1, most_seconds=2.0)
    for _ in range(200):
        patience.learn(0.12)
    assert 0.12 <= patience.seconds < 0.13
    for number in range(200):
        patience.learn(0.11 if number % 2 else 0.13)
    assert patience.seconds > 0.15
    patience.forget()
    assert patience.seconds == patience.most_seconds
