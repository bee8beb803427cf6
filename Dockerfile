# docker build -t idempotency-proxy .
# docker run --rm -p 127.0.0.1:8080:8080 -v idempotency:/data -e IDEMPOTENCY_PROXY_UPSTREAM__URL=https://api.example.com \
#     --stop-timeout 90 idempotency-proxy
# A stop waits for requests under way, for limits.drain_timeout (80s); Docker's own patience is 10s.

FROM python:3.13-slim AS base


FROM base AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements/build.lock requirements/run.lock requirements/
# Wheels only: there is no compiler here, and nothing of a package runs while it is installed.
RUN python -m venv --without-pip /opt/venv \
    && pip install --require-hashes --only-binary :all: -r requirements/build.lock \
    && pip --python /opt/venv/bin/python install --require-hashes --only-binary :all: -r requirements/run.lock
COPY pyproject.toml README.md ./
COPY config config
COPY proxy proxy
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /dist . \
    && pip --python /opt/venv/bin/python install --no-deps --no-index /dist/*.whl


FROM base
RUN install -d -m 0700 -o 10001 -g 10001 /data
COPY --from=build /opt/venv /opt/venv
# In a container loopback would be out of everyone's reach: what is published is chosen when it is started.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    IDEMPOTENCY_PROXY_LISTEN=0.0.0.0:8080 \
    IDEMPOTENCY_PROXY_OPS_LISTEN=0.0.0.0:9090 \
    IDEMPOTENCY_PROXY_STORE__URL=sqlite:///data/idempotency.db \
    IDEMPOTENCY_PROXY_SPOOL__PATH=/data/idempotency-spool.db
# Numeric, so that Kubernetes can tell that it is not root (runAsNonRoot).
USER 10001:10001
VOLUME /data
EXPOSE 8080 9090
STOPSIGNAL SIGTERM
# Without HTTP_PROXY and the like, which Docker may hand to every container.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["python", "-c", "import os, urllib.request as r; \
port = os.environ['IDEMPOTENCY_PROXY_OPS_LISTEN'].rpartition(':')[2]; \
r.build_opener(r.ProxyHandler({})).open(f'http://127.0.0.1:{port}/healthz', timeout=4)"]
ENTRYPOINT ["idempotency-proxy"]
CMD ["serve"]
