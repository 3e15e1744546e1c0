"""What the page of ``--format web`` finds, with every digit of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from chromium import Chromium

# Asks the page's worker as the page does, and keeps every digit of the answers.
_ASK = """(async () => {
  const worker = new Worker("worker.js", { type: "module" });
  const ask = (message) => new Promise((resolve) => {
    worker.onmessage = ({ data }) => resolve(data);
    worker.postMessage(message);
  });
  const opened = await ask({ id: 0, open: "wasm" });
  const answers = [];
  for (const url of URLS) answers.push(await ask({ id: 1, image: await (await fetch(url)).blob() }));
  worker.terminate();
  return { opened, answers };
})()"""


def found_in(page: Chromium, urls: Sequence[str]) -> dict[str, Any]:
    """``opened``: the worker's answer when it opened the model; ``answers``: one for each image below the page."""
    result: dict[str, Any] = page.run(_ASK.replace("URLS", json.dumps(urls)))
    return result
