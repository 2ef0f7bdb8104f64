# For processors:        docker build --tag mld-toolkit .
# For NVIDIA GPUs:       docker build --tag mld-toolkit:cuda --build-arg TORCH=cu128 .
# A run of ./spec.yaml:  docker run --rm --volume "$PWD:/workspace" mld-toolkit run spec.yaml
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
WORKDIR /source
COPY . .
RUN pip install --no-cache-dir build \
    && python -m build --wheel --outdir /wheels

FROM python:${PYTHON}-slim
# The builds of torch: cpu, or a version of CUDA as in https://pytorch.org/get-started
ARG TORCH=cpu
# Of mld, separated by commas
ARG EXTRAS=builtin
# What RDKit draws molecules with
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libexpat1 libxext6 libxrender1 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir --extra-index-url "https://download.pytorch.org/whl/${TORCH}" \
    "$(echo /wheels/*.whl)[${EXTRAS}]"
# Any user may write these; the work folder is the caller's.
ENV HOME=/tmp MLD_STORE=/workspace/store
WORKDIR /workspace
RUN useradd --no-create-home mld && chown mld /workspace
USER mld
ENTRYPOINT ["mld"]
