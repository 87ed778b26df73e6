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
        if card is None or (card.policy, card.reward_model) != (policy, reward_model):
            return None
        return card

    def all(self) -> list[ModelCard]:
        return [self._cards[name] for name in sorted(self._cards)]

    def hold(self, state: ControlState) -> None:
        """From now on these are in force."""
        self._cards = dict(state.cards)
