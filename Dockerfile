# One image for every process; docker-compose.yml says which. glibc, not musl: what sessions run expects it.
FROM python:3.13-slim AS build
COPY --from=ghcr.io/astral-sh/uv:0.13 /uv /usr/local/bin/uv
WORKDIR /srv/jelmore
COPY pyproject.toml uv.lock README.md LICENSE ./
RUN uv sync --locked --no-default-groups --no-install-project --compile-bytecode --no-python-downloads
COPY . .
RUN uv sync --locked --no-default-groups --compile-bytecode --no-python-downloads

FROM python:3.13-slim
# The sandbox of SESSION_SANDBOX=bwrap.
RUN apt-get update && apt-get install --yes --no-install-recommends bubblewrap && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --create-home jelmore && install -d -o jelmore /var/lib/jelmore
COPY --from=build /srv/jelmore /srv/jelmore
WORKDIR /srv/jelmore
ENV PATH=/srv/jelmore/.venv/bin:$PATH JELMORE_HOME=/var/lib/jelmore PYTHONUNBUFFERED=1
USER jelmore
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ.get('PORT', '8000')}/health/live\", timeout=3)"]
CMD ["gunicorn", "-k", "gevent", "-c", "gunicorn.conf.py", "--access-logfile", "/dev/null", "app:create_app()"]
