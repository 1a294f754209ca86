"""The pure parts of the browsers' module, under node."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.needs import SYSTEM_PATH, needs

HERE: Final = Path(__file__).parent
MODULE: Final = HERE.parents[1] / "app" / "static" / "jelmore.js"


def test_the_pure_parts_under_node(tmp_path: Path) -> None:
    node = needs("node")
    module = tmp_path / "jelmore.mjs"  # node would take .js for what it was before modules
    shutil.copy(MODULE, module)
    done = subprocess.run(
        [node, "--test", str(HERE / "parts.test.mjs")],
        env={"PATH": SYSTEM_PATH, "JELMORE_MODULE": module.as_uri()},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
