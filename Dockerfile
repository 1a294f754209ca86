# One image for every process; docker-compose.yml and deploy/kubernetes say which. glibc, not musl: what sessions run expects it.
#   docker build -t jelmore .                            with Claude Code, Sentry and OpenTelemetry
#   docker build -t jelmore --build-arg EXTRAS= .        without: 500 MB less
FROM python:3.13-slim AS build
ARG EXTRAS="--extra claude --extra sentry --extra otel"
COPY --from=ghcr.io/astral-sh/uv:0.13 /uv /usr/local/bin/uv
WORKDIR /srv/jelmore
COPY pyproject.toml uv.lock README.md LICENSE ./
# hadolint ignore=SC2086
RUN uv sync --locked --no-default-groups $EXTRAS --no-install-project --compile-bytecode --no-python-downloads
COPY . .
# hadolint ignore=SC2086
RUN uv sync --locked --no-default-groups $EXTRAS --compile-bytecode --no-python-downloads

FROM python:3.13-slim
# bubblewrap: the sandbox of SESSION_SANDBOX=bwrap. git: what Claude Code's sessions reach for first.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends bubblewrap git && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --create-home jelmore && install -d -o jelmore /var/lib/jelmore
COPY --from=build /srv/jelmore /srv/jelmore
WORKDIR /srv/jelmore
ENV PATH=/srv/jelmore/.venv/bin:$PATH JELMORE_HOME=/var/lib/jelmore PYTHONUNBUFFERED=1
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ.get('PORT', '8000')}/health/live\", timeout=5)"]
CMD ["gunicorn", "-k", "gevent", "-c", "gunicorn.conf.py", "--access-logfile", "/dev/null", "app:create_app()"]
