"""Tiny models, made once a session."""

from pathlib import Path

import pytest

from tests.scorers.classifier import Classifier, load_classifier
from tests.scorers.models import SMALL_TEMPLATE, make_classifier


@pytest.fixture(scope="session")
def reward_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_classifier(tmp_path_factory.mktemp("reward"))


@pytest.fixture(scope="session")
def safety_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_classifier(
        tmp_path_factory.mktemp("safety"),
        labels=("violence", "self-harm", "Safe"),
        problem_type="multi_label_classification",
        head_scale=5.0,
        seed=1,
    )


@pytest.fixture(scope="session")
def reward_classifier(reward_folder: Path) -> Classifier:
    return load_classifier(str(reward_folder))


@pytest.fixture(scope="session")
def safety_classifier(safety_folder: Path) -> Classifier:
    return load_classifier(str(safety_folder))


@pytest.fixture(scope="session")
def small_template_classifier(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return load_classifier(str(make_classifier(tmp_path_factory.mktemp("small"), template=SMALL_TEMPLATE)))
