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

"""What the sources never call, since files and networks would decide what code runs."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("benchmarks", "depthseg_ros", "examples", "launch", "tools", "training")

FORBIDDEN = {
    *("eval", "exec", "compile", "__import__"),
    *("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"),
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.load", "marshal.loads"),
    *("shelve.open", "joblib.load", "dill.load", "cloudpickle.load"),
    *("yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load"),
    *("torch.hub.load", "torch.jit.load", "torch.package.PackageImporter"),
    "shutil.unpack_archive",
    "rosbags.highlevel.AnyReader",  # runs Python that it makes of a bag's message definitions
}
METHODS = {"extract", "extractall", "register_custom_ops_library", "load_library"}
"""Of whatever: archives that are unpacked where their members say, libraries that files name."""
NEEDED = {  # call -> what it is to be told
    "torch.load": ("weights_only", True),
    "load_from_checkpoint": ("weights_only", True),
    "from_pretrained": ("trust_remote_code", False),
}
NEVER = {"shell": True, "allow_pickle": True, "trust_remote_code": True, "weights_only": False}


def faults(source):
    """Lines of a source with a call that lets data run code."""
    tree = ast.parse(source)
    names = {}  # as imported -> full name
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {a.asname: a.name for a in node.names if a.asname}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        first, *others = ast.unparse(node.func).split(".")
        called = ".".join([names.get(first, first), *others])
        method = called.rpartition(".")[2]
        given = {k.arg: getattr(k.value, "value", ...) for k in node.keywords}
        key, value = NEEDED.get(called) or NEEDED.get(method) or ("", None)
        if (
            called in FORBIDDEN
            or (others and method in METHODS)
            or (key and given.get(key) is not value)
            or any(given.get(option) not in (None, not bad) for option, bad in NEVER.items())
        ):
            found.append((node.lineno, ast.unparse(node)))
    return found


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_file_and_no_message_chooses_what_code_runs(folder):
    paths = sorted((ROOT / folder).rglob("*.py"))
    assert paths
    assert {str(p): f for p in paths if (f := faults(p.read_text(encoding="utf-8")))} == {}


@pytest.mark.parametrize(
    "source",
    [
        "eval(text)",
        "from os import system as run\nrun(text)",
        "import subprocess\nsubprocess.run(text, shell=True)",
        "subprocess.run(text, shell=wanted)",
        "import pickle as p\np.load(file)",
        "import numpy as np\nnp.load(file, allow_pickle=True)",
        "import torch\ntorch.load(file)",
        "torch.load(file, weights_only=False)",
        "Task.load_from_checkpoint(file)",
        "AutoModel.from_pretrained(name)",
        "load(name, trust_remote_code=True)",
        "import yaml\nyaml.load(text, yaml.Loader)",
        "tarfile.open(file).extractall(folder)",
        "from rosbags.highlevel import AnyReader\nAnyReader([bag])",
        "options.register_custom_ops_library(file)",
    ],
)
def test_such_a_call_would_be_found(source):
    assert faults(source)


@pytest.mark.parametrize(
    "source",
    [
        "import numpy as np\nnp.load(file)",
        "import torch\ntorch.load(file, weights_only=True)",
        "import re\nre.compile(text)",
        "import yaml\nyaml.safe_load(text)",
        "model.eval()",
        "load(name, trust_remote_code=False)",
    ],
)
def test_what_runs_no_code_is_allowed(source):
    assert not faults(source)
