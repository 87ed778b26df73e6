from gateway.telemetry.metrics import Metrics


def test_a_category_is_its_own_label_until_there_are_too_many() -> None:
    metrics = Metrics()
    names = [f"category {number}" for number in range(1000)]
    labels = [metrics.category(name) for name in names]
    assert labels[0] == names[0]
    assert labels[-1] == "other"
    assert len(set(labels)) <= 101
    # Those that have one keep it.
    assert [metrics.category(name) for name in names] == labels


def test_a_category_of_any_length_is_a_label_of_a_bounded_one() -> None:
    assert Metrics().category("x" * 10_000) == "other"
