# The node on a Jetson, in one container with ROS 2 and PyTorch for the board's JetPack.
#
# Not tried: no Jetson was at hand. Written after the documentation of jetson-containers (github.com/dusty-nv/
# jetson-containers), whose images have ROS 2, built from source, in $ROS_ROOT/install.
#
# On the Jetson, in a checkout of this package; the first command names the image that it has built:
#
#   jetson-containers build --name=timebill_base pytorch ros:humble-ros-base
#   docker build -f docker/jetson.Dockerfile --build-arg BASE_IMAGE=timebill_base:TAG -t timebill .
#   docker run --rm --runtime nvidia --network host --ipc host -v timebill_cache:/cache -v ~/models:/models:ro timebill \
#       --params-file /timebill/share/timebill_ros/config/machines/jetson_orin_32gb.yaml -p model:=/models/NAME
#
# On JetPack with Ubuntu 24.04 take ros:jazzy-ros-base. Set the power mode on the host first (nvpmodel, jetson_clocks).
ARG BASE_IMAGE
FROM ${BASE_IMAGE}

SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# torch and numpy stay those of the image, which are built for this JetPack.
RUN python3 -c "import torch; print(f'torch=={torch.__version__}')" > /tmp/constraints.txt && \
    python3 -c "import numpy; print(f'numpy=={numpy.__version__}')" >> /tmp/constraints.txt && \
    python3 -m pip install --no-cache-dir -c /tmp/constraints.txt \
        "transformers>=4.56" safetensors pyyaml rich gguf accelerate llguidance && \
    python3 -c "import torch; assert torch.version.cuda, 'this torch has no CUDA'"

COPY . /tmp/workspace/src/timebill_ros
RUN source "$ROS_ROOT/install/setup.bash" && cd /tmp/workspace && \
    colcon build --merge-install --install-base /timebill --packages-select timebill_ros \
        --cmake-args -DBUILD_TESTING=OFF && \
    rm -rf /tmp/workspace

VOLUME /cache
ENV XDG_CACHE_HOME=/cache

# exec: the node is the first process, gets docker's SIGTERM, and gives every open goal its result before it ends.
ENTRYPOINT ["/bin/bash", "-c", "source $ROS_ROOT/install/setup.bash && source /timebill/setup.bash && \
exec /timebill/lib/timebill_ros/timebill_node --ros-args -p autostart:=true \"$@\"", "timebill_node"]
CMD ["--params-file", "/timebill/share/timebill_ros/config/machines/jetson_orin_8gb.yaml"]
