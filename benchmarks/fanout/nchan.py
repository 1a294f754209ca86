"""nginx with nchan from the distribution."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from benchmarks import debian

CONFIGURATION: Final = Path(__file__).with_name("peers") / "nchan.conf"
FILES: Final = ("sbin/nginx", "lib/nginx/modules/ngx_nchan_module.so")
PACKAGES: Final = ("nginx", "libnginx-mod-nchan")


def command(home: Path, port: int) -> list[str] | None:
    """Return what starts it; None, and a word, where it cannot be had."""
    found = debian.had(FILES, PACKAGES)
    if found is None:
        print("nchan cannot be had; that arm is left out.", file=sys.stderr)
        return None
    nginx, module = found
    folder = home / "nchan"
    folder.mkdir(exist_ok=True)
    text = CONFIGURATION.read_text()
    for name, value in (("MODULE", module), ("FOLDER", folder), ("PORT", port)):
        text = text.replace(name, str(value))
    (folder / "nginx.conf").write_text(text)
    return [str(nginx), "-c", str(folder / "nginx.conf"), "-p", str(folder), "-e", str(folder / "error.log")]
