"""The model cards that this gateway serves by: what `bestow calibrate MODEL` measured, by public model."""

from gateway.control.state import ControlState
from gateway.decoding.card import ModelCard


class CardStore:
    """Empty until `hold` says what is in force."""

    def __init__(self) -> None:
        self._cards: dict[str, ModelCard] = {}

    def get(self, model: str, policy: str, reward_model: str | None) -> ModelCard | None:
        """The card, where it was measured on these very versions (name@N)."""
        card = self._cards.get(model)
        return card if card is not None and card.measured_on(policy, reward_model) else None

    def hold(self, state: ControlState) -> None:
        """From now on these are in force."""
        self._cards = dict(state.cards)
