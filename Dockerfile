# The image of nexus-graph: `serve`, `relay`, `migrate` and the other commands that work on servers of your own.
# No compiler is used to build it, and none is left in it, nor pip, apt or dpkg. It runs as a user without a name to log
# in by, needs no writable file system but /tmp, and holds no secret: servers and passwords come from the environment.
#
#   docker build --build-arg REVISION="$(git rev-parse HEAD)" --tag nexus-graph:0.1.0 .

FROM python:3.13.15-slim-trixie AS base

# Makes /opt/nexus: a virtual environment with the wheels of the lock file, then nexus_graph itself.
FROM base AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY deploy/requirements.build.lock deploy/requirements.runtime.lock deploy/
RUN python -m venv --without-pip /opt/nexus \
    && pip --python /opt/nexus install --require-hashes --only-binary :all: -r deploy/requirements.runtime.lock \
    && pip install --require-hashes --only-binary :all: -r deploy/requirements.build.lock
COPY pyproject.toml README.md ./
COPY schema schema
COPY cypher cypher
COPY nexus_graph nexus_graph
# Compiled once, here: the running container cannot write beside its modules.
RUN hatchling build --target wheel --directory dist \
    && pip --python /opt/nexus install --no-deps --no-index dist/*.whl \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/nexus/lib

# The file system of the last stage: what Python needs to run. /var/lib/dpkg/status stays, so that scanners can tell which
# packages are in it.
FROM base AS trimmed
WORKDIR /usr/local
RUN python -m compileall -q -j 0 --invalidation-mode unchecked-hash lib/python3.13 \
    && rm -rf include share/man bin/pip* bin/idle* bin/pydoc* bin/python*-config lib/pkgconfig \
        lib/python3.13/site-packages lib/python3.13/ensurepip lib/python3.13/idlelib lib/python3.13/tkinter \
        lib/python3.13/turtledemo lib/python3.13/config-3.13-* \
    && mkdir lib/python3.13/site-packages \
    && cp /var/lib/dpkg/status /status \
    && rm -rf /usr/bin/apt* /usr/lib/apt /usr/libexec/apt* /usr/bin/dpkg* /usr/sbin/dpkg* /usr/libexec/dpkg* \
        /usr/lib/dpkg /usr/share/dpkg /usr/bin/perl* /usr/lib/*/perl* /usr/share/perl* /usr/share/doc /usr/share/man \
        /etc/apt /etc/dpkg /var/lib/apt /var/lib/dpkg /var/cache /var/log /root/.cache \
    && mkdir -p /var/lib/dpkg /var/cache /var/log \
    && mv /status /var/lib/dpkg/status \
    && find / -xdev -type f -perm /6000 -exec chmod a-s {} + \
    && echo 'nexus:x:10001:10001::/nonexistent:/usr/sbin/nologin' >> /etc/passwd \
    && echo 'nexus:x:10001:' >> /etc/group

# One layer: what was removed above is not hidden, it is not there.
FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="nexus-graph" \
    org.opencontainers.image.description="An identity graph that explains itself: PostgreSQL decides, Neo4j shows, GraphQL answers." \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
# hadolint ignore=DL3067
COPY --from=trimmed / /
COPY --from=builder /opt/nexus /opt/nexus
ENV PATH=/opt/nexus/bin:/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-I", "-c", "from http.client import HTTPConnection as C; c = C('127.0.0.1', 8000, timeout=2); c.request('GET', '/livez'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["nexus-graph"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
