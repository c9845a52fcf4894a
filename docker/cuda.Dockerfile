# Images for machines with an NVIDIA GPU: `--target server` speaks HTTP and writes text, `--target worker` draws pictures.
# The server is vLLM's own image with this package in it; the worker is a slim Python with torch's CUDA build, without
# vLLM. Their packages are locked in the versions of the images for CPUs, but for vLLM and what it is built on.

ARG PYTHON=3.11.15
ARG VLLM=0.32.0


FROM python:${PYTHON}-slim-bookworm AS dreamserve
ARG SETUPTOOLS=78.1.1
RUN python3 -m venv --without-pip /opt/venv \
    && pip --python /opt/venv install --no-cache-dir --no-deps "setuptools==${SETUPTOOLS}"
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY models models
COPY server server
RUN pip --python /opt/venv install --no-cache-dir --no-deps --no-build-isolation --prefix /dreamserve .


FROM python:${PYTHON}-slim-bookworm AS worker-packages
# By number, so that an orchestrator can see that it is not root. Libraries keep their caches in the home directory, and
# /tmp is the one place to write to when the root filesystem is read-only.
RUN groupadd --gid 10001 dreamserve \
    && useradd --uid 10001 --gid 10001 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin dreamserve
COPY --chmod=755 docker/healthcheck.py /usr/local/bin/healthcheck
# CUDA comes as wheels, so the base needs none; the driver is the host's. Headers, static libraries and torch's own tests
# are left out, and of its programs all but torch_shm_manager, which is for others than its developers.
COPY requirements/gpu-worker.lock /requirements/
WORKDIR /opt/venv/lib/python3.11/site-packages
RUN python3 -m venv --without-pip /opt/venv \
    && pip --python /opt/venv install --no-cache-dir --no-deps --require-hashes -r /requirements/gpu-worker.lock \
    && rm -rf torch/include torch/test \
    && find torch/bin -type f ! -name torch_shm_manager -delete \
    && find nvidia -name '*.a' -delete \
    && find nvidia -type d -name include -prune -exec rm -r {} +
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /tmp


FROM worker-packages AS worker
ARG REVISION=unknown
LABEL org.opencontainers.image.title="dreamserve-worker" \
      org.opencontainers.image.description="Draws the pictures that dreamserve-server asks for, on an NVIDIA GPU" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=dreamserve /dreamserve /opt/venv
RUN pip --python /opt/venv check
ENV DREAMSERVE_WORKER__HOST=0.0.0.0
EXPOSE 8001
HEALTHCHECK --start-period=5m --interval=10s --timeout=5s --retries=3 \
    CMD ["healthcheck", "8001", "/health/live"]
USER 10001:10001
ENTRYPOINT ["dreamserve"]
CMD ["worker"]


FROM vllm/vllm-openai:v${VLLM} AS server
RUN groupadd --gid 10001 dreamserve \
    && useradd --uid 10001 --gid 10001 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin dreamserve
COPY --chmod=755 docker/healthcheck.py /usr/local/bin/healthcheck
# As vLLM's manual has it for packages beside its own. Of torch and what it brings the image has its own builds, which the
# lock leaves alone; the rest is the same versions wherever vLLM allows them.
COPY requirements/gpu-server.lock /requirements/
RUN uv pip install --system --no-cache --no-deps --require-hashes -r /requirements/gpu-server.lock
# Its Python is another one: the package, which is Python only, lies beside the others' folder.
COPY --from=dreamserve /dreamserve/lib/python3.11/site-packages /opt/dreamserve
ARG REVISION=unknown
LABEL org.opencontainers.image.title="dreamserve-server" \
      org.opencontainers.image.description="Serves models that answer in text and pictures together, on NVIDIA GPUs" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV DREAMSERVE_SERVER__HOST=0.0.0.0 \
    PYTHONPATH=/opt/dreamserve \
    PYTHONUNBUFFERED=1
EXPOSE 8000
HEALTHCHECK --start-period=10m --interval=10s --timeout=5s --retries=3 \
    CMD ["healthcheck", "8000", "/health/live"]
WORKDIR /tmp
USER 10001:10001
ENTRYPOINT ["python3", "-m", "server.cli"]
CMD ["serve"]
