"""nginx from the distribution in front of web processes, with the time-outs of a proxy that is in a hurry."""

from __future__ import annotations

import signal
import socket
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from jelmore.embedded.server import free_port
from tests.checks import eventually
from tests.needs import needs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TIMEOUT_SECONDS: Final = 2
"""Of nginx, for each byte: by default it is 60."""
CONFIGURATION: Final = """
daemon off;
worker_processes 1;
pid FOLDER/nginx.pid;
error_log FOLDER/error.log warn;
events { worker_connections 1024; }
http {
  access_log off;
  client_body_temp_path FOLDER/body;
  proxy_temp_path FOLDER/proxy;
  fastcgi_temp_path FOLDER/fastcgi;
  uwsgi_temp_path FOLDER/uwsgi;
  scgi_temp_path FOLDER/scgi;
  proxy_read_timeout TIMEOUTs;
  proxy_send_timeout TIMEOUTs;
  send_timeout TIMEOUTs;
  map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
  upstream jelmore { UPSTREAMS }
  server {
    listen 127.0.0.1:PORT;
    location / {
      proxy_pass http://jelmore;
      proxy_set_header Host $http_host;
      PROTOCOL
    }
  }
}
"""
DEFAULT: Final = ""
"""HTTP/1.0 to the web processes, as nginx does it when it is not told otherwise. No WebSocket goes through."""
MODERN: Final = """
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
"""
"""HTTP/1.1, with WebSockets."""
BUFFERING: Final = """
      proxy_buffering on;
      proxy_ignore_headers X-Accel-Buffering;
"""
"""What holds streams back: by itself nginx heeds what they say."""


@contextmanager
def in_front(
    folder: Path, ports: list[int], protocol: str = DEFAULT, *, timeout_seconds: int = TIMEOUT_SECONDS
) -> Iterator[int]:
    """Run nginx before these web processes; hand out its port."""
    nginx = needs("nginx")
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)
    port = free_port()
    text = CONFIGURATION.replace("PROTOCOL", protocol).replace("FOLDER", str(folder)).replace("PORT", str(port))
    text = text.replace("TIMEOUT", str(timeout_seconds))
    text = text.replace("UPSTREAMS", " ".join(f"server 127.0.0.1:{each};" for each in ports))
    (folder / "nginx.conf").write_text(text)
    command = [nginx, "-c", str(folder / "nginx.conf"), "-p", str(folder), "-e", str(folder / "error.log")]
    process = subprocess.Popen(command, start_new_session=True)
    try:
        eventually(lambda: _listens(port))
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
