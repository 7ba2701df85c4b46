"""A page as a headless browser has it, after its scripts."""

import shutil
import subprocess
import tempfile

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def dom(address: str, budget_ms: int | None = 2000) -> str:
    """
    Args:
      budget_ms: how long the page believes that it was open; None: until it has loaded.
    """
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    budget = [] if budget_ms is None else [f"--virtual-time-budget={budget_ms}"]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [
            program, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={profile}", *budget, "--dump-dom", address,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return done.stdout
