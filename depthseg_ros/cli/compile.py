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

"""`depthseg compile`: compile a model file's engine and store it in the cache or a file."""

from __future__ import annotations

import argparse
import signal
import threading

from .. import model_card
from ..backends import why_not
from .usage import UsageError, progress_bar


def run(options: argparse.Namespace) -> None:
    """Compile a model file's engine and store it in the cache or a file."""
    from ..backends import compiler, engine_cache, tensorrt

    flavour = options.flavour.replace("-", "_")
    if flavour == "auto":  # as the node chooses; without a GPU, one that needs none
        installed = compiler.installed() or ["tensorrt"]
        flavour = next((name for name in installed if not why_not(name)), installed[-1])
    chosen = compiler.Options(options.workspace, options.dla, options.version_compatible)
    special = (options.smallest, options.largest, options.dla, options.version_compatible)
    if options.output is None and (any(special) or options.dla == 0):
        raise UsageError(
            "an engine with --smallest, --largest, --dla or --version-compatible needs --output:"
            " the node's cache only has engines for one size"
        )
    if options.output is not None and not options.output.parent.is_dir():
        raise UsageError(
            f"--output {options.output}: the folder {options.output.parent} does not exist"
        )
    if options.output is not None and options.output.is_dir():
        raise UsageError(f"--output {options.output} is a folder, expected a file name")
    try:
        width, height = options.size
        shapes = compiler.Shapes(width, height, options.batch, options.smallest, options.largest)
    except ValueError as error:
        raise UsageError(str(error)) from None
    model = model_card.find_model(options.model)
    content, identity = tensorrt.identify(model, flavour, None)
    if options.batch > 1 and model_card.read(model).single_image:
        raise UsageError(f"--batch is {options.batch}, but {model} takes one image at a time")
    key = engine_cache.Key(**identity, shapes=shapes, dla=options.dla)
    cache = engine_cache.EngineCache()
    # TensorRT swallows a KeyboardInterrupt raised in its callbacks.
    stopped = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: stopped.set())
    with progress_bar() as progress:
        task = progress.add_task("compile", total=1.0)

        def show(share: float, phase: str) -> bool:
            progress.update(task, completed=share, description=phase.lower())
            return not stopped.is_set()

        try:
            engine, timings = compiler.compile_engine(
                content, flavour, shapes, chosen, cache.timings(key), show
            )
        except compiler.Cancelled:
            raise KeyboardInterrupt from None
    cache.keep_timings(key, timings)
    if options.output is not None:
        engine_cache.write_engine(options.output, key, engine)
    elif not cache.store(key, engine):
        raise OSError(f"the engine could not be stored in {cache.folder}")
    written = options.output or cache.folder / key.file_name
    size = written.stat().st_size / 1e6
    print(f"{written}: {key.name}, {key.precision}, for images of {shapes}, {size:.1f} MB")
