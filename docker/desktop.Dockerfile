# PC with an RTX GPU, ROS 2 Jazzy, TensorRT for RTX. Not built in CI.
#   docker build -f docker/desktop.Dockerfile -t depthseg_ros .
#   docker run --gpus all --network host --ipc host --device /dev/video0 depthseg_ros
FROM ros:jazzy-ros-base

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN apt-get update && apt-get install -y --no-install-recommends \
       python3-colcon-common-extensions python3-pip ros-jazzy-cv-bridge ros-jazzy-vision-msgs \
    && rm -rf /var/lib/apt/lists/*
# The system's Python is this container's own.
RUN python3 -m pip install --no-cache-dir --break-system-packages \
       "tensorrt-rtx-cu13>=1.1" cuda-bindings onnx onnxruntime rich

WORKDIR /workspace
COPY . src/depthseg_ros
RUN source /opt/ros/jazzy/setup.bash && colcon build --packages-select depthseg_ros
CMD ["bash", "-c", "source install/setup.bash && exec ros2 launch depthseg_ros camera.launch.py source:=/dev/video0"]
