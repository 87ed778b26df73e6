"""Where a model is: a local folder or a Hugging Face id. Light, so that a missing folder is told before torch loads."""

from pathlib import Path


class LoadError(Exception):
    """A model that cannot be served; its message is one plain sentence."""


def model_path(model: str) -> str:
    """The folder with `~` expanded, or the Hugging Face id as it is. Raises LoadError where no model can be."""
    path = Path(model).expanduser()
    looks_local = model.startswith((".", "/", "~")) or model.count("/") > 1
    if looks_local and not path.is_dir():
        raise LoadError(f"There is no folder {model} with a model in it.")
    if path.is_dir() and not (path / "config.json").is_file():
        raise LoadError(f"The folder {model} holds no model: there is no config.json in it.")
    return str(path) if path.is_dir() else model
