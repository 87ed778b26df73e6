"""From a judge's settings to a judge that runs."""

from scorers.backend import NextToken
from scorers.backends.opening import open_backend
from scorers.contract import ServedScorer
from scorers.judge.constitution import read_constitution
from scorers.judge.pairwise import PairPrompt, PairReader, PairwiseJudge
from scorers.judge.pointwise import RatingPrompt, RatingReader
from scorers.judge.prompt import PAIR_LABELS, PAIR_QUESTION, RATING_QUESTION, RATINGS, digest, told
from scorers.judge.strengths import most_candidates
from scorers.judge.verdict import VerdictPrompt
from scorers.loading import Loading, declared
from scorers.model_files import load_files
from scorers.model_path import LoadError
from scorers.model_scorer import ModelScorer
from scorers.scorer_settings import JudgeConfig
from scorers.trial import try_scorer


def load(name: str, config: JudgeConfig, loading: Loading) -> tuple[ServedScorer, str]:
    """The judge, and where and how it runs in a few words. Raises LoadError.

    Its version ends in a digest of all that it is told beside the material, so that another constitution is another
    version: name@N+digest.
    """
    constitution = read_constitution(config.constitution)
    told_always = told(constitution, PAIR_QUESTION if config.relative else RATING_QUESTION)
    files = load_files(config.model, config.max_tokens)
    prompt = VerdictPrompt(files.name, files.tokenizer, files.tokens)
    head = NextToken(prompt.label_ids(PAIR_LABELS if config.relative else RATINGS))
    needed = len(prompt.encode("\n".join(told_always)))
    if needed >= files.max_tokens:
        raise LoadError(
            f"The constitution and the instructions are {needed} tokens, and {files.name} reads at most "
            f"{files.max_tokens}: shorten the constitution or take a model that reads more."
        )
    max_queue = loading.server.max_queue
    most = most_candidates(config.opponents, max_queue) if config.relative else max_queue
    if config.relative and most < 2:
        raise LoadError(f"max_queue is {max_queue}, and to compare two answers both ways takes 2.")
    info = declared(name, config, max_tokens=files.max_tokens, partial=False, digest=digest(told_always))
    backend, about = open_backend(name, files, head, loading, dtype=config.dtype, vllm=config.vllm)
    words = f"{config.model} {about}, {config.mode}, principles: {len(constitution.principles)}, candidates: {most}"
    if config.relative:
        pairs = PairPrompt(prompt, told_always, files.max_tokens)
        try_scorer(name, files.name, pairs, PairReader(), backend)
        return PairwiseJudge(info, pairs, backend, opponents=config.opponents, max_candidates=most), words
    ratings, reader = RatingPrompt(prompt, told_always), RatingReader(files.max_tokens)
    try_scorer(name, files.name, ratings, reader, backend)
    return ModelScorer(info, ratings, reader, backend, max_candidates=most), words
