# PC with an RTX GPU, ROS 2 Jazzy, TensorRT for RTX; without --gpus on the CPU. Not built in CI.
#   docker build -f docker/desktop.Dockerfile -t depthseg_ros .
#   docker run --gpus all --network host --ipc host --device /dev/video0 -v depthseg_cache:/cache depthseg_ros
# or with a command of your own at the end: depthseg doctor

# What building and developing takes (.devcontainer).
FROM ros:jazzy-ros-base AS base
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends \
       python3-dev python3-pip python3-venv ros-jazzy-cv-bridge ros-jazzy-vision-msgs \
    && rm -rf /var/lib/apt/lists/*

FROM base
# The system's Python is this container's own; cv_bridge and OpenCV are compiled for its numpy.
# hadolint ignore=DL3013
RUN python3 -m pip install --no-cache-dir --break-system-packages \
       "tensorrt-rtx-cu13>=1.1" "cuda-bindings>=12.6" "numpy<2" onnx onnxruntime rich

WORKDIR /workspace
COPY . src/depthseg_ros
RUN . /opt/ros/jazzy/setup.bash && colcon build --packages-select depthseg_ros

# The first user of most hosts: Fast DDS shares memory within one user only, so that the host's
# nodes would see root's topics and get nothing of them. Compiled engines are kept in /cache.
RUN usermod --append --groups video ubuntu && install --directory --owner ubuntu /cache
ENV XDG_CACHE_HOME=/cache
USER 1000
ENTRYPOINT ["bash", "-c", "source /workspace/install/setup.bash && exec \"$@\"", "--"]
CMD ["ros2", "launch", "depthseg_ros", "camera.launch.py", "source:=/dev/video0"]
