# syntax=docker/dockerfile:1
#
# For a CPU:      docker build --tag dreamer .
# For CUDA 12:    docker build --tag dreamer:cuda --build-arg EXTRAS=gpu .
# More suites:    docker build --tag dreamer:atari --build-arg "EXTRAS=gpu atari" .
# Images of MuJoCo need:     --build-arg "PACKAGES=libegl1 libegl-mesa0 libgl1-mesa-dri"
#
# Runs are kept in the present folder, and belong to its owner:
#   docker run --rm --init --user "$(id -u):$(id -g)" --volume "$PWD:/work" dreamer train
#   docker run --rm --init --gpus all --user "$(id -u):$(id -g)" --volume "$PWD:/work" dreamer:cuda train
#
# JAX brings the libraries of CUDA as packages, so both kinds start from the same image; a host with a GPU needs
# the driver and the NVIDIA Container Toolkit.

ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS wheel
WORKDIR /source
COPY . .
RUN --mount=type=cache,target=/root/.cache/pip \
    pip wheel --no-deps --wheel-dir /wheels .

FROM python:${PYTHON}-slim AS runtime
ARG PACKAGES=""
# hadolint ignore=DL3008,SC2086
RUN if [ -n "$PACKAGES" ]; then \
      apt-get update && \
      apt-get install --yes --no-install-recommends $PACKAGES && \
      rm -rf /var/lib/apt/lists/*; \
    fi

# The dependencies are a layer of their own, made again only where pyproject.toml has changed.
ARG EXTRAS=""
COPY pyproject.toml /tmp/pyproject.toml
RUN --mount=type=cache,target=/root/.cache/pip \
    python -c "import sys, tomllib; \
project = tomllib.load(open('/tmp/pyproject.toml', 'rb'))['project']; \
extras = [x for name in sys.argv[1].split() for x in project['optional-dependencies'][name]]; \
print(*project['dependencies'], *extras, sep='\n')" "$EXTRAS" > /tmp/requirements.txt && \
    pip install --root-user-action ignore --requirement /tmp/requirements.txt

COPY --from=wheel /wheels /tmp/wheels
RUN pip install --root-user-action ignore --no-cache-dir --no-deps /tmp/wheels/*.whl && \
    rm -r /tmp/wheels /tmp/pyproject.toml /tmp/requirements.txt && \
    useradd --create-home --uid 1000 dreamer && \
    install --directory --mode 1777 /work /cache

# The cache is there for any user that the container is started as.
ENV PYTHONUNBUFFERED=1 \
    XDG_CACHE_HOME=/cache \
    MPLCONFIGDIR=/cache/matplotlib \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,graphics
USER 1000
WORKDIR /work
ENTRYPOINT ["dreamer"]
CMD ["--help"]
