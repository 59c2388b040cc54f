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

"""Load the node's model: choice of the backend, fallback if it fails, and time limits.

A runtime may get stuck where nothing can interrupt it. So each model is loaded in its own thread.
If that takes too long, the thread is abandoned, and releases its model when it returns.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as Late
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from .. import model_card
from ..backends import BackendError, choose
from ..imaging.image_files import read_image
from ..memory import trim_memory
from ..model_card import ModelCard
from ..perception import Perception
from ..texts import one_line
from .parameters import Settings

DEADLINE = 120.0
"""Time limit for loading a model, seconds; engines are compiled later and may take longer."""
CLOSING = 5.0
"""Time limit for releasing a model, seconds."""
T = TypeVar("T")


class Loader:
    """Loads models, releases them and logs what was loaded.

    Args:
        log: The node's logger.
    """

    def __init__(self, log: Any) -> None:
        self._log = log
        self._beside: threading.Thread | None = None
        self._stuck: list[threading.Thread] = []
        self._lost = ""

    @property
    def busy(self) -> bool:
        """Whether a model is being loaded in the background."""
        return self._beside is not None and self._beside.is_alive()

    def stuck(self, *more: threading.Thread) -> int:
        """Number of threads stuck in runtimes; `more` are added to them."""
        self._stuck = [thread for thread in (*self._stuck, *more) if thread.is_alive()]
        return len(self._stuck)

    def avoid(self, backend: str, why: str) -> None:
        """Exclude TensorRT from `auto`, if that is the backend that failed."""
        if backend.startswith("tensorrt"):
            self._lost = f"{backend}: {why}"

    def forget(self) -> None:
        """Let `auto` use all backends again."""
        self._lost = ""

    def load(self, settings: Settings) -> tuple[Perception, str]:
        """Load a model and warm it up; returns it and a line about it.

        Raises:
            BackendError: It took longer than `DEADLINE`.
            Exception: Whatever backends raise.
        """
        backend, why = settings.backend, ""
        if backend == "auto" and self._lost:
            backend, why = "onnxruntime", f" (auto: not {self._lost})"
            settings = replace(settings, engine="")
        elif backend == "auto" and not settings.providers:
            backend, why = self._within_deadline(choose)
            why = f" (auto: {why})"
        try:
            return self._load_on(backend, settings, why)
        except Exception as error:  # anything a backend raises
            if settings.backend != "auto" or not backend.startswith("tensorrt"):
                raise
            failed = one_line(error)
            self.avoid(backend, failed)
            self._log.warning(f"{backend} cannot be used: {failed}; using onnxruntime")
            settings = replace(settings, engine="")
            return self._load_on("onnxruntime", settings, f" (auto: not {self._lost})")

    def _load_on(self, backend: str, settings: Settings, why: str) -> tuple[Perception, str]:
        started = time.monotonic()

        def load() -> Perception:
            perception = Perception(
                settings.model or model_card.DEFAULT,
                backend,
                settings.providers,
                settings.threads,
                os.path.expanduser(settings.engine),
                settings.precision,
            )
            try:
                perception.warm_up()
            except Exception:
                perception.close()
                raise
            return perception

        perception = self._within_deadline(load, self.release)
        card = perception.card
        # `choose_file` has logged why it chose this file.
        file = perception.path.name if perception.why else perception.path
        return perception, (
            f"Model {card.name} on {perception.backend.name}{why} in {card.precision} ({file}),"
            f" loaded in {time.monotonic() - started:.1f} s: {len(card.classes)} classes,"
            f" {card.depth.kind if card.depth else 'no'} depth"
        )

    def _within_deadline(self, call: Callable[[], T], late: Callable[[T], None] | None = None) -> T:
        """Run a call in its own thread; a result after the time limit goes to `late`."""
        outcome: Future[T] = Future()

        def work() -> None:
            try:
                result = call()
            except (Exception, SystemExit) as error:  # anything a backend raises
                with suppress(InvalidStateError):
                    outcome.set_exception(error)
                return
            try:
                outcome.set_result(result)
            except InvalidStateError:  # abandoned in the meantime
                if late is not None:
                    late(result)

        thread = threading.Thread(target=work, name="loading", daemon=True)
        thread.start()
        try:
            return outcome.result(DEADLINE)
        except Late:
            if outcome.cancel():
                self.stuck(thread)
                raise BackendError(f"the model was not loaded within {DEADLINE:g} s") from None
            return outcome.result()
        except SystemExit as error:
            raise BackendError(f"a library tried to end the process: {error!r}") from None

    def load_beside(
        self, settings: Settings, then: Callable[[Perception | None, str], None]
    ) -> None:
        """Load a model in the background.

        Args:
            settings: The node's settings, changed as wanted.
            then: Called in another thread with the model and a line about it, or with None and the
                reason.
        """

        def load() -> None:
            try:
                then(*self.load(settings))
            except Exception as error:  # anything a backend raises
                then(None, one_line(error))

        self._beside = threading.Thread(target=load, name="waiting for a model", daemon=True)
        self._beside.start()

    def join(self) -> None:
        """Wait for loading in the background, at most `CLOSING` seconds."""
        if self._beside is not None:
            self._beside.join(CLOSING)

    def release(self, perception: Perception) -> None:
        """Release a model's memory, waiting at most `CLOSING` seconds; raises nothing."""

        def close() -> None:
            try:
                perception.close()
            except Exception as error:  # e.g. the GPU is gone
                self._log.error(f"Releasing the model failed: {one_line(error)}")
            trim_memory()

        thread = threading.Thread(target=close, name="releasing a model", daemon=True)
        thread.start()
        thread.join(CLOSING)
        if thread.is_alive():
            self.stuck(thread)
            self._log.error(f"Releasing the model timed out after {CLOSING:g} s; the node goes on")

    def log_loaded(self, perception: Perception, line: str, settings: Settings) -> None:
        """Log what was loaded, and its limitations."""
        card = perception.card
        self._log.info(line)
        if card.depth and card.depth.kind != "metric":
            self._log.warning(
                f"The model's depth is {card.depth.kind}, not metres: depth/image contains it"
                " unchanged, other outputs do not use it"
                + (
                    " until correct_scale, with camera_height or tf, converts it to metres"
                    if card.depth.kind == "up-to-scale"
                    else ""
                )
            )
        if card.schema_version < 2:
            self._log.warning(
                "The model file has schema version 1: images of another shape than"
                f" {'x'.join(map(str, card.network_size))} are padded to it, which reduces"
                " the resolution; export the model again"
            )
        if perception.backend.ready_for(card.network_size) is None:
            self._log.info(
                "The first image waits until its engine is compiled (seconds to minutes);"
                f" to compile it before: depthseg compile {perception.path} --size WIDTHxHEIGHT"
            )


def background(settings: Settings, card: ModelCard) -> NDArray[np.uint8] | None:
    """The background image, if the model needs one and one is given."""
    if settings.background and card.needs_background:
        return read_image(Path(settings.background).expanduser())
    return None
