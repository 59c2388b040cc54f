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

"""Find out which backends can run on this machine, and which one `auto` uses."""

from __future__ import annotations

from importlib import import_module

from . import compiler, cuda
from .base import BackendError


def why_not(name: str) -> str:
    """Why a backend cannot run on this machine; empty if it can."""
    try:
        if name in compiler.FLAVOURS:
            if name not in compiler.installed():
                compiler.load_flavour(name)  # raises with what to install
            device = cuda.open_device()  # first: fast if there is no GPU
            device.close()
            trt = compiler.load_flavour(name)
            if served := getattr(trt, "ComputeCapability", None):
                kind = f"SM{device.compute_capability.replace('.', '')}"
                # Turing is listed, but only Ampere and later are supported.
                if kind == "SM75" or kind not in served.__members__:
                    return f"{compiler.FLAVOURS[name].title} does not support {device.name}, {kind}"
        else:
            import_module(name)
    except (BackendError, ImportError) as error:
        return str(error)
    return ""


def choose() -> tuple[str, str]:
    """The backend that `auto` uses on this machine, and the reason."""
    reasons = []
    for flavour in compiler.installed():
        reason = why_not(flavour)
        if not reason:
            return flavour, "it is installed and there is a GPU"
        reasons.append(f"not {flavour}: {reason}")
    reasons = reasons or ["TensorRT is not installed"]
    return "onnxruntime", f"the fastest on CPUs in our measurements; {'; '.join(reasons)}"
