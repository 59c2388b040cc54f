# Jetson Orin, JetPack 6, ROS 2 Humble. Not built in CI.
#   docker build -f docker/jetson.Dockerfile -t depthseg_ros .
#   docker run --runtime nvidia --network host --ipc host --device /dev/video0 depthseg_ros
FROM nvcr.io/nvidia/l4t-jetpack:r36.4.0

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ENV DEBIAN_FRONTEND=noninteractive ROS_DISTRO=humble
RUN apt-get update && apt-get install -y --no-install-recommends curl ca-certificates \
    && curl -sSLo /usr/share/keyrings/ros.gpg https://raw.githubusercontent.com/ros/rosdistro/master/ros.key \
    && echo "deb [signed-by=/usr/share/keyrings/ros.gpg] http://packages.ros.org/ros2/ubuntu jammy main" \
       > /etc/apt/sources.list.d/ros2.list \
    && apt-get update && apt-get install -y --no-install-recommends \
       python3-colcon-common-extensions python3-libnvinfer python3-pip \
       ros-humble-cv-bridge ros-humble-ros-base ros-humble-vision-msgs \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m pip install --no-cache-dir "cuda-bindings>=12.6,<13" "numpy<2" onnx onnxruntime rich

WORKDIR /workspace
COPY . src/depthseg_ros
RUN source /opt/ros/humble/setup.bash && colcon build --packages-select depthseg_ros
CMD ["bash", "-c", "source install/setup.bash && exec ros2 launch depthseg_ros camera.launch.py source:=/dev/video0"]
