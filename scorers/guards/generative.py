"""A guard that is a language model (Llama Guard, Qwen3Guard, others by a format file): prompt, one token, verdict."""

from scorers.assembly import assembled
from scorers.backend import NextToken
from scorers.backends.opening import open_backend
from scorers.errors import BadScoreRequest
from scorers.guards.guard_format import GuardFormat, read_format, shipped_formats
from scorers.guards.markers import Markers
from scorers.guards.prompt import GuardPrompt
from scorers.guards.verdict import VerdictReader, find_tokens
from scorers.loading import Loading
from scorers.model_files import ModelFiles, load_files
from scorers.model_path import LoadError
from scorers.model_scorer import ModelScorer
from scorers.scorer_settings import GenerativeSafetyConfig

_TURNS = (
    {"role": "user", "content": "xylophone"},
    {"role": "assistant", "content": "marmalade"},
    {"role": "user", "content": "tangerine"},
)
_PROBES = [_TURNS[:count] for count in range(1, len(_TURNS) + 1)]


def guard_parts(files: ModelFiles, config: GenerativeSafetyConfig) -> tuple[GuardPrompt, VerdictReader, GuardFormat]:
    """How this model's prompts are made, what its rows mean, and its format. Raises LoadError where it has none."""
    own = read_format(config.template) if config.template else None
    template = own.template if own else None
    if template is None and not files.tokenizer.chat_template:
        raise LoadError(
            f"The tokenizer of {files.name} has no chat template, which makes a guard's prompts: name a guard format "
            "that has one with `template`."
        )
    parts, prompts = _probed(files, template)
    found = _listed(own or _recognised(files.name, prompts, config.family), prompts)
    prompt = GuardPrompt(
        files.tokenizer,
        files.tokens,
        Markers(found.sections, found.speakers, files.tokens.normal),
        template=template,
        parts=parts,
        lead=found.lead,
    )
    tokens = {find_tokens(files.tokens, prompt.text(probe), found) for probe in _PROBES}
    if len(tokens) > 1:
        raise LoadError(f"The labels of {files.name} are other tokens after other prompts of its template.")
    return prompt, VerdictReader(found, tokens.pop(), files.max_tokens), found


def _probed(files: ModelFiles, template: str | None) -> tuple[bool, list[str]]:
    """Whether the template wants content as a list of parts (Llama Guard 3 1B does), and what it makes of probes."""
    reason = ""
    nothing = Markers((), (), files.tokens.normal)
    for parts in (False, True):
        prompt = GuardPrompt(files.tokenizer, files.tokens, nothing, template=template, parts=parts, lead="")
        try:
            return parts, [prompt.text(probe) for probe in _PROBES]
        except BadScoreRequest as error:
            reason = reason or str(error)
    raise LoadError(f"The chat template for {files.name} makes no prompt of a short conversation. {reason}")


def _recognised(model: str, prompts: list[str], family: str | None) -> GuardFormat:
    """The shipped format that is asked for, or whose texts stand in all of the prompts."""
    shipped = shipped_formats()
    if family is not None and family not in shipped:
        raise LoadError(f"There is no guard family {family!r}; there is {', '.join(shipped)}.")
    for name in [family] if family else shipped:
        missing = [text for text in shipped[name].recognised_by if not all(text in prompt for prompt in prompts)]
        if not missing:
            return shipped[name]
        if family:
            raise LoadError(f"{model} is no {family}: its chat template makes prompts without {missing[0]!r}.")
    raise LoadError(
        f"The prompts that the chat template of {model} makes are of no known guard ({', '.join(shipped)}): name a "
        "guard format of your own with `template`."
    )


def _listed(found: GuardFormat, prompts: list[str]) -> GuardFormat:
    """Without the categories that this model's prompts do not list."""
    kept = [one for one in found.categories if one.listed is None or any(one.listed in prompt for prompt in prompts)]
    if found.categories and not kept:
        raise LoadError("The prompts list none of the guard format's categories.")
    return found.model_copy(update={"categories": kept})


def load(name: str, config: GenerativeSafetyConfig, loading: Loading) -> tuple[ModelScorer, str]:
    """The scorer, and where and how it runs in a few words. Raises LoadError, also where it answers in no label."""
    files = load_files(config.model, config.max_tokens)
    encoder, reader, found = guard_parts(files, config)
    backend, about = open_backend(name, files, NextToken(reader.ids), loading, dtype=config.dtype, vllm=config.vllm)
    scorer = assembled(name, config, files, encoder, reader, backend, loading, prompt_only=True, categories=found.names)
    return scorer, f"{config.model} {about}, read as {found.about}"
