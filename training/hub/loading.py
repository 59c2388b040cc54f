# Copyright 2026 the maintainers of depthseg_ros
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

"""Load configurations, weights, image processors and licences from the hub or a folder."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from depthseg_ros.files import LFS_POINTER, is_lfs_pointer

from ..errors import TrainingError

_PERMISSIVE = re.compile(r"apache-2|mit$|bsd|cc-by-(sa-)?\d|cc0|isc$|unlicense|zlib|openrail")
_NON_COMMERCIAL = re.compile(r"\bnc\b|non-?commercial|research|amlr|academic")


def transformers() -> Any:
    """Import transformers and make it print errors only.

    Raises:
        TrainingError: It is not installed.
    """
    try:
        import transformers
    except ImportError:
        raise TrainingError(
            "models of the Hugging Face hub need transformers: pip install -e .[teachers], or give"
            " a model file (.onnx) where one is accepted"
        ) from None
    transformers.utils.logging.set_verbosity_error()
    if not sys.stderr.isatty():
        transformers.utils.logging.disable_progress_bar()
    return transformers


def checked_name(name: str) -> str:
    """Return the name on the hub, or the folder with `~` expanded.

    Raises:
        TrainingError: It is not a folder and cannot be a name on the hub.
    """
    path = Path(name).expanduser()
    if path.is_file() or (not path.is_dir() and name.startswith(("/", ".", "~"))):
        raise TrainingError(
            f"{name} is {'a file' if path.is_file() else 'not there'}, expected a .onnx,"
            " the folder of a model, or its name on the Hugging Face hub"
        )
    return str(path) if path.is_dir() else name


def load(kind: Any, name: str) -> Any:
    """Load an object of a class of transformers from a name or folder; raises `TrainingError`."""
    try:
        # Never run the model's own code; without this argument transformers asks on the terminal.
        return kind.from_pretrained(name, trust_remote_code=False)
    except Exception as error:  # each library has its own
        raise _not_loaded(name, error) from None


def load_model(kind: Any, name: str) -> Any:
    """Load a model with all its weights; transformers replaces missing ones by random values.

    Raises:
        TrainingError: It cannot be loaded, or weights are missing.
    """
    try:
        model, report = kind.from_pretrained(
            name, trust_remote_code=False, output_loading_info=True
        )
    except Exception as error:  # each library has its own
        raise _not_loaded(name, error) from None
    # Auxiliary heads are for training only.
    used = {key for key, _ in model.named_parameters() if "auxiliary" not in key}
    missing = sorted(used & set(report["missing_keys"]))
    if missing:
        raise TrainingError(
            f"{name} has no weights for {len(missing)} of {len(used)} parameters, e.g."
            f" {missing[0]}: they would be random. Was it trained for this task, and saved by"
            " save_pretrained?"
        )
    return model


def _not_loaded(name: str, error: Exception) -> TrainingError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    if Path(name).is_dir():
        for file in Path(name).glob("model*.safetensors"):
            with file.open("rb") as opened:
                if is_lfs_pointer(opened.read(100)):
                    return TrainingError(f"{file} is {LFS_POINTER}")
        return TrainingError(f"{name} is not a folder that transformers can load: {reason}")
    return TrainingError(
        f"{name} is not a folder, and cannot be downloaded from the Hugging Face hub: {reason}"
        " Without a network, give a folder with the model, or a model file (.onnx)"
    )


def file_of(name: str, file: str) -> Path | None:
    """Return the path of a model's file, downloaded if necessary; None if there is no such file.

    Raises:
        TrainingError: The hub, or the model on it, cannot be reached.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder / file if (folder / file).is_file() else None
    transformers()  # checks that it and thus huggingface_hub are installed
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(name, file))
    except LocalEntryNotFoundError as error:  # not downloaded before, and no network
        raise _not_loaded(name, error) from None
    except EntryNotFoundError:
        return None
    except Exception as error:  # each library has its own
        raise _not_loaded(name, error) from None


def config_entries(name: str) -> dict[str, Any]:
    """Read config.json; empty if there is none. Raises `TrainingError`."""
    path = file_of(name, "config.json")
    if path is None:
        return {}
    try:
        entries = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path} is not JSON: {error}") from None
    return entries if isinstance(entries, dict) else {}


class Processor(NamedTuple):
    """The image processor of a model."""

    settings: dict[str, Any]
    run: Any
    """The processor; None if its only implementation needs torchvision, which is not installed."""


def image_processor(name: str) -> Processor:
    """Load the image processor; raises `TrainingError`."""
    auto = transformers().AutoImageProcessor
    try:
        run = auto.from_pretrained(name, trust_remote_code=False)
        return Processor(run.to_dict(), run)
    except Exception as error:  # each library has its own
        if "torchvision" not in str(error):
            raise _not_loaded(name, error) from None
    path = file_of(name, "preprocessor_config.json")
    return Processor({} if path is None else json.loads(path.read_text()), None)


class Licence(NamedTuple):
    """Licence and data sets according to the model's README.md."""

    name: str
    """As on the hub, such as `apache-2.0`; empty if there is none."""
    datasets: tuple[str, ...]
    """Data sets that the card names."""

    def warning(self, model: str) -> str | None:
        """Return a warning if the licence is restrictive, unknown or missing."""
        if not self.name:
            return f"{model} gives no licence: ask its authors before you use or share the file"
        if _NON_COMMERCIAL.search(self.name):
            return f"{model} has the licence {self.name}: NOT for commercial use"
        if not _PERMISSIVE.match(self.name):
            return f"{model} has the licence {self.name}: read it before you use or share the file"
        return None


def licence(name: str) -> Licence:
    """Read the licence from the front matter of README.md, in the folder or on the hub."""
    path = file_of(name, "README.md")
    text = "" if path is None else path.read_text(encoding="utf-8", errors="replace")
    front = re.match(r"\ufeff?---\s*\n(.*?)\n---\s*(\n|$)", text, re.DOTALL)
    try:
        entries = yaml.safe_load(front[1]) if front else {}
    except yaml.YAMLError:
        entries = {}
    entries = entries if isinstance(entries, dict) else {}
    # `other` stands for a licence that has a name of its own.
    names = [entries.get(key) for key in ("license", "license_name")]
    known = [", ".join(map(str, n)) if isinstance(n, list) else str(n) for n in names if n]
    text = " ".join(known[-1:] if known[:1] == ["other"] else known[:1]).lower()
    datasets = entries.get("datasets") or []
    datasets = datasets if isinstance(datasets, list) else [datasets]
    return Licence(text, tuple(map(str, datasets)))
