# Jetson Orin, JetPack 6, ROS 2 Humble. Not built in CI.
#   docker build -f docker/jetson.Dockerfile -t depthseg_ros .
#   docker run --runtime nvidia --network host --ipc host --device /dev/video0 -v depthseg_cache:/cache depthseg_ros
# or with a command of your own at the end: depthseg doctor
FROM nvcr.io/nvidia/l4t-jetpack:r36.4.0

SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ARG DEBIAN_FRONTEND=noninteractive
ENV LANG=C.UTF-8 ROS_DISTRO=humble
# ROS 2's apt source and key. JetPack's OpenCV goes: cv_bridge is compiled for Ubuntu's, whose
# packages would overwrite its files.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates curl \
    && curl -sSfLo /tmp/ros2-apt-source.deb https://github.com/ros-infrastructure/ros-apt-source/releases/download/1.2.0/ros2-apt-source_1.2.0.jammy_all.deb \
    && echo "767884cf4ed03116b9d64438930a832ed854147ae435279a7924dfdf60f94433  /tmp/ros2-apt-source.deb" \
       | sha256sum --check --strict \
    && apt-get install -y --no-install-recommends /tmp/ros2-apt-source.deb \
    && apt-get purge -y '*opencv*' \
    && apt-get update && apt-get install -y --no-install-recommends \
       build-essential python3-colcon-common-extensions python3-libnvinfer python3-pip \
       ros-humble-cv-bridge ros-humble-ros-base ros-humble-vision-msgs \
    && rm -rf /tmp/ros2-apt-source.deb /var/lib/apt/lists/*
# hadolint ignore=DL3013
RUN python3 -m pip install --no-cache-dir "cuda-bindings>=12.6,<13" "numpy<2" onnx onnxruntime rich

WORKDIR /workspace
COPY . src/depthseg_ros
RUN . /opt/ros/humble/setup.bash && colcon build --packages-select depthseg_ros

# The first user of most hosts: Fast DDS shares memory within one user only, so that the host's
# nodes would see root's topics and get nothing of them. Engines, which take minutes to compile, are
# kept in /cache.
RUN useradd --create-home --uid 1000 --groups video ubuntu && install --directory --owner ubuntu /cache
ENV XDG_CACHE_HOME=/cache
USER 1000
ENTRYPOINT ["bash", "-c", "source /workspace/install/setup.bash && exec \"$@\"", "--"]
CMD ["ros2", "launch", "depthseg_ros", "camera.launch.py", "source:=/dev/video0"]
