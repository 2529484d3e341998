"""Other wordings of answers from any OpenAI-compatible endpoint, kept in a file so that a run can be repeated.

A wording is never trusted: the simulator uses one only if the parser reads the same symbol from it.
"""

from __future__ import annotations

import hashlib
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from medvlm.pathways.located import PathwayError
from medvlm.storage import read_json, write_json

_PROMPT = (
    "Rewrite the following answer of a physician in {count} different ways. Keep the meaning exactly, including every "
    "negation, number and unit. One rewriting a line, nothing else.\n\n{text}"
)


class Paraphraser:
    """Asks a chat endpoint for rewordings and remembers them.

    Args:
        endpoint: base URL (`http://localhost:8000/v1`).
        model: model name at the endpoint.
        cache: JSON file of answers by request; requests found there are not sent again.
        count: wordings a text.
        seed: sent with the request.
        key: API key, if the endpoint wants one.
        timeout: seconds.
    """

    def __init__(
        self, endpoint: str, model: str, cache: Path, count: int = 4, seed: int = 0, key: str = "", timeout: float = 60
    ) -> None:
        self.endpoint, self.model, self.cache = endpoint.rstrip("/"), model, Path(cache)
        self.count, self.seed, self.key, self.timeout = count, seed, key, timeout
        self.known: dict[str, list[str]] = read_json(self.cache) if self.cache.is_file() else {}
        self.asked = 0

    def __call__(self, text: str, slot: str) -> list[str]:
        """Wordings of `text`, from the cache or the endpoint.

        Raises:
            PathwayError: the endpoint does not answer as an OpenAI-compatible one.
        """
        request = self._request(text)
        name = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:32]
        if name not in self.known:
            self.known[name] = self._ask(request)
            self.asked += 1
            if self.asked % 50 == 0:
                self.save()
        return self.known[name]

    def save(self) -> None:
        """Write the cache."""
        write_json(self.cache, self.known)

    def _request(self, text: str) -> dict[str, Any]:
        return {
            "model": self.model,
            "messages": [{"role": "user", "content": _PROMPT.format(count=self.count, text=text)}],
            "temperature": 0.8,
            "seed": self.seed,
        }

    def _ask(self, request: dict[str, Any]) -> list[str]:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        url = f"{self.endpoint}/chat/completions"
        if not url.startswith(("http://", "https://")):
            raise PathwayError(
                f"the endpoint '{self.endpoint}' is no http address; give something like http://host/v1."
            )
        message = urllib.request.Request(url, json.dumps(request).encode(), headers)
        try:
            with urllib.request.urlopen(message, timeout=self.timeout) as response:
                reply = json.loads(response.read())
            content = reply["choices"][0]["message"]["content"]
        except (urllib.error.URLError, TimeoutError) as error:
            raise PathwayError(f"{url} does not answer ({error}); check the address or leave out --endpoint.") from None
        except (ValueError, KeyError, IndexError, TypeError):
            raise PathwayError(
                f"{url} does not answer like an OpenAI-compatible endpoint; check the address."
            ) from None
        lines = (line.strip(" -*\t") for line in str(content).splitlines())
        return [line.split(". ", 1)[-1] if line[:1].isdigit() else line for line in lines if line][: self.count]
