"""What a selection rule says of candidates that were logged: the chooser that serves, on the record of a request.

Not logged, and so told from what is: how many prune stages a candidate has passed (those whose score it has, less the
one that gave it up), and whether the profile lets out what the guard could not judge (it did if that was delivered).
"""

from collections.abc import Mapping, Sequence

from gateway.control.estimates import Target
from gateway.decoding.candidate import Candidate, Judged
from gateway.decoding.card import ModelCard
from gateway.decoding.selection.chooser import Chooser
from gateway.decoding.selection.settings import SelectionConfig
from gateway.log.records import CandidateRecord, Interaction
from scorers.contract import Score


def by_rule(settings: SelectionConfig, cards: Mapping[str, ModelCard]) -> Target:
    """The probabilities that the rule gives to an interaction's candidates. cards: by public model."""

    def target(interaction: Interaction) -> Sequence[float]:
        judged = [_judged(one, interaction.reward_model) for one in interaction.candidates]
        card = cards.get(interaction.model)
        if card is not None and not card.measured_on(interaction.policy, interaction.reward_model):
            card = None
        chooser = Chooser(settings, rewarded=interaction.reward_model is not None, card=card)
        passes = any(judged[position].unjudged for position in interaction.delivered)
        return chooser.rank(judged, unjudged_passes=passes).outcomes.candidates

    return target


def _judged(record: CandidateRecord, reward_model: str | None) -> Judged:
    stages = [score.value for version, score in record.scores.items() if version != reward_model]
    return Judged(
        candidate=Candidate(
            index=record.index,
            wave=record.wave,
            seed=record.seed,
            message=record.message,
            finish_reason=record.finish_reason,
            stop_reason=record.stop_reason,
            logprobs=None,
            token_ids=record.token_ids,
            completion_tokens=record.completion_tokens,
            finished_s=(record.finished_ms or 0.0) / 1000,
        ),
        reward=record.reward,
        reward_error=record.reward_error,
        verdict=record.verdict,
        scored_s=(record.scored_ms or 0.0) / 1000,
        broken=record.broken,
        scores={version: Score(value=score.value, parts=score.parts) for version, score in record.scores.items()},
        prior=stages[-1] if stages else None,
        stages=len(stages) - (record.pruned_by is not None),
        pruned_by=record.pruned_by,
        second_check=record.second_check,
    )
