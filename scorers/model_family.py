"""A loaded model's family: which it is by its files, and whether these fit it."""

import dataclasses

from scorers.contract import Kind
from scorers.families import Family, find_family
from scorers.model_files import ModelFiles
from scorers.model_path import LoadError


def family_of(files: ModelFiles, kind: Kind, wanted: str | None) -> Family:
    """See `find_family`. Raises LoadError."""
    architectures = getattr(files.config, "architectures", None) or ()
    template = files.tokenizer.chat_template
    return find_family(kind, files.name, architectures, str(template) if template else None, wanted)


def within_recommended(files: ModelFiles, family: Family, wanted: int | None) -> ModelFiles:
    """With the family's longest input where the settings say none and the model would read more."""
    if wanted is not None or family.max_tokens is None:
        return files
    return dataclasses.replace(files, max_tokens=min(files.max_tokens, family.max_tokens))


def check_template(files: ModelFiles, family: Family) -> None:
    """Raises LoadError where there is no chat template, or it does not close a turn as the family's does."""
    if not files.tokenizer.chat_template:
        raise LoadError(f"The tokenizer of {files.name} has no chat template, which the family {family.name} needs.")
    if not family.prompt.closes:
        return
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
    rendered = files.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=False)
    if not str(rendered).rstrip().endswith(family.prompt.closes):
        raise LoadError(
            f"The chat template of {files.name} does not close a turn with {family.prompt.closes}, as the family "
            f"{family.name} does. Name its own with `family`."
        )
