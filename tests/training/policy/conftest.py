"""What the tests of policy training share."""

from pathlib import Path

import pytest

from tests.training.policy.tiny import tiny_policy
from tests.training.reward.conftest import one_thread

__all__ = ["one_thread"]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny policy, which no test changes."""
    return tiny_policy(tmp_path_factory.mktemp("tiny") / "policy")
