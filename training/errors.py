"""What goes wrong in training and has one clear line to say about it."""

from pathlib import Path


class TrainingError(ValueError):
    """Wrong data, configuration or checkpoint; the message says what was found and expected."""


def check_output(path: Path) -> Path:
    """A file to be written, refused before the work that fills it where it cannot be one."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if path.is_dir():
        raise TrainingError(f"cannot write {path}: it is a folder, expected a file's name")
    if not folder.is_dir():
        raise TrainingError(f"cannot write {path}: {folder} is a file, not a folder")
    return path
