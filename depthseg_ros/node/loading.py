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

"""How the node comes by its model: on which backend, on what else if that fails, and how long.

A runtime may hang where nothing can interrupt it. So each model is loaded in a thread of its own,
which is given up when it takes too long; what it comes back with is given back.
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
"""Seconds in which a model must be loaded; engines are compiled later, and may take longer."""
CLOSING = 5.0
"""Seconds in which a model must be given back."""
T = TypeVar("T")


class Loader:
    """Loads models, gives them back and tells of them.

    Args:
        log: The node's logger.
    """

    def __init__(self, log: Any) -> None:
        self._log = log
        self._beside: threading.Thread | None = None
        self._hung: list[threading.Thread] = []
        self._lost = ""

    @property
    def busy(self) -> bool:
        """Whether a model is being loaded beside the caller."""
        return self._beside is not None and self._beside.is_alive()

    def hung(self, *more: threading.Thread) -> int:
        """How many threads hang in runtimes, `more` included from now on."""
        self._hung = [thread for thread in (*self._hung, *more) if thread.is_alive()]
        return len(self._hung)

    def avoid(self, backend: str, why: str) -> None:
        """Let `auto` take no TensorRT any more, if that is the backend which failed."""
        if backend.startswith("tensorrt"):
            self._lost = f"{backend}: {why}"

    def forget(self) -> None:
        """Let `auto` take what it likes again."""
        self._lost = ""

    def load(self, settings: Settings) -> tuple[Perception, str]:
        """A model that is ready to run, and a line about it.

        Raises:
            BackendError: it took longer than `DEADLINE`.
            Exception: whatever backends raise.
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
            self._log.warning(f"{backend} does not serve: {failed}; taking onnxruntime")
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

        perception = self._within_deadline(load, self.give_back)
        card = perception.card
        # Why this file of a name runs has been logged where it was chosen.
        file = perception.path.name if perception.why else perception.path
        return perception, (
            f"Model {card.name} on {perception.backend.name}{why} in {card.precision} ({file}),"
            f" loaded in {time.monotonic() - started:.1f} s: {len(card.classes)} classes,"
            f" {card.depth.kind if card.depth else 'no'} depth"
        )

    def _within_deadline(self, call: Callable[[], T], late: Callable[[T], None] | None = None) -> T:
        """What a call gives in a thread of its own, and `late` gets where it comes too late."""
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
            except InvalidStateError:  # given up meanwhile
                if late is not None:
                    late(result)

        thread = threading.Thread(target=work, name="loading", daemon=True)
        thread.start()
        try:
            return outcome.result(DEADLINE)
        except Late:
            if outcome.cancel():
                self.hung(thread)
                raise BackendError(f"the model did not load within {DEADLINE:g} s") from None
            return outcome.result()
        except SystemExit as error:
            raise BackendError(f"a library wanted to end the process: {error!r}") from None

    def load_beside(
        self, settings: Settings, then: Callable[[Perception | None, str], None]
    ) -> None:
        """Load a model while the caller goes on.

        Args:
            settings: As the node's, but for what is wanted otherwise.
            then: Called in another thread with the model and a line about it, or without one and
                why there is none.
        """

        def load() -> None:
            try:
                then(*self.load(settings))
            except Exception as error:  # anything a backend raises
                then(None, one_line(error))

        self._beside = threading.Thread(target=load, name="waiting for a model", daemon=True)
        self._beside.start()

    def join(self) -> None:
        """Wait for what is loaded beside, as far as it does not hang."""
        if self._beside is not None:
            self._beside.join(CLOSING)

    def give_back(self, perception: Perception) -> None:
        """Give back a model's memory, as far as that does not hang; raises nothing."""

        def close() -> None:
            try:
                perception.close()
            except Exception as error:  # a GPU that is gone, say
                self._log.error(f"Giving back the model failed: {one_line(error)}")
            trim_memory()

        thread = threading.Thread(target=close, name="giving back", daemon=True)
        thread.start()
        thread.join(CLOSING)
        if thread.is_alive():
            self.hung(thread)
            self._log.error(f"The model is not given back within {CLOSING:g} s; going on without")

    def tell_of(self, perception: Perception, said: str, settings: Settings) -> None:
        """Log what was loaded, and what to know of it."""
        card = perception.card
        self._log.info(said)
        if card.depth and card.depth.kind != "metric":
            self._log.warning(
                f"The model's depth is {card.depth.kind}, not metres: depth/image carries it as"
                " it is, other outputs leave it out"
                + (
                    " until correct_scale, by camera_height or tf, makes metres of it"
                    if card.depth.kind == "up-to-scale"
                    else ""
                )
            )
        if card.schema_version < 2:
            self._log.warning(
                "The model file has schema version 1: images of another shape than"
                f" {'x'.join(map(str, card.network_size))} are padded to it, which costs"
                " resolution; export the model again"
            )
        if perception.backend.ready_for(card.network_size) is None:
            self._log.info(
                "The first picture will wait for its engine to be compiled, seconds to minutes;"
                f" beforehand: depthseg compile {perception.path} --size WIDTHxHEIGHT"
            )


def background(settings: Settings, card: ModelCard) -> NDArray[np.uint8] | None:
    """The picture that a model compares with, if it does and one is given."""
    if settings.background and card.needs_background:
        return read_image(Path(settings.background).expanduser())
    return None
