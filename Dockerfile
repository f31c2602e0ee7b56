# A server with its page (docs/serving.md).
#
#   docker build -t partglee .                                        # for a processor
#   docker build -t partglee:cuda --build-arg VARIANT=cuda .          # for an NVIDIA GPU
#   docker run --rm -p 8000:8000 partglee                             # http://127.0.0.1:8000
#   docker run --rm --gpus all -p 8000:8000 partglee:cuda
#   docker run --rm -v "$PWD:/data" partglee predict photo.jpg --vocabulary "car: wheel" --out found
ARG VARIANT=cpu

FROM ubuntu:24.04 AS build-cpu
ENV TORCH_INDEX=https://download.pytorch.org/whl/cpu PARTGLEE_BUILD_OPS=cpu

FROM nvidia/cuda:13.0.1-devel-ubuntu24.04 AS build-cuda
ENV TORCH_INDEX=https://download.pytorch.org/whl/cu130 PARTGLEE_BUILD_OPS=1

# hadolint ignore=DL3006
FROM build-${VARIANT} AS build
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends g++ python3-dev python3-venv && rm -rf /var/lib/apt/lists/*
# hadolint ignore=DL3013
RUN python3 -m venv /opt/partglee && /opt/partglee/bin/pip install --no-cache-dir torch torchvision \
    --index-url "$TORCH_INDEX"
WORKDIR /src
COPY . .
RUN /opt/partglee/bin/pip install --no-cache-dir ".[serve,words]"

FROM ubuntu:24.04 AS run-cpu

FROM nvidia/cuda:13.0.1-base-ubuntu24.04 AS run-cuda

# hadolint ignore=DL3006
FROM run-${VARIANT}
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 python3 && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 partglee
COPY --from=build /opt/partglee /opt/partglee
ENV PATH=/opt/partglee/bin:$PATH
USER 10001
WORKDIR /data
EXPOSE 8000
HEALTHCHECK --start-period=60s --timeout=10s CMD ["python3", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=5)"]
ENTRYPOINT ["partglee"]
CMD ["serve", "--host", "0.0.0.0"]
