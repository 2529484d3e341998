"""A headless Chromium driven over the DevTools protocol: enough to read a session as a person would."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


class Chromium:
    """One browser process with one page; `kill` ends it as a crash would."""

    def __init__(self, profile: Path, downloads: Path, size: str = "1600,900") -> None:
        profile.mkdir(parents=True, exist_ok=True)
        port = profile / "DevToolsActivePort"
        port.unlink(missing_ok=True)
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
                   "--no-first-run",
                   "--hide-scrollbars", "--host-resolver-rules=MAP * ~NOTFOUND", f"--window-size={size}"]  # fmt: skip
        self.process = subprocess.Popen(
            [str(BROWSER), *options, "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while not port.is_file() or len(port.read_text().splitlines()) < 2:
            assert time.monotonic() < deadline, "the browser did not start"
            time.sleep(0.1)
        number, path = port.read_text().splitlines()[:2]
        self.loop = asyncio.new_event_loop()
        self.count = 0
        self.errors: list[str] = []
        self.loop.run_until_complete(self._connect(f"ws://127.0.0.1:{number}{path}"))
        self.call("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(downloads)}, page=False)

    async def _connect(self, address: str) -> None:
        import aiohttp

        self.client = aiohttp.ClientSession()
        self.socket = await self.client.ws_connect(address, max_msg_size=0)
        target = await self._send("Target.createTarget", {"url": "about:blank"}, None)
        attached = await self._send("Target.attachToTarget", {"targetId": target["targetId"], "flatten": True}, None)
        self.page = attached["sessionId"]
        await self._send("Page.enable", {}, self.page)
        await self._send("Runtime.enable", {}, self.page)

    async def _send(self, method: str, arguments: dict[str, Any], session: str | None) -> dict[str, Any]:
        self.count += 1
        message: dict[str, Any] = {"id": self.count, "method": method, "params": arguments}
        if session:
            message["sessionId"] = session
        await self.socket.send_json(message)
        while True:
            answer = json.loads((await asyncio.wait_for(self.socket.receive(), 60)).data)
            if answer.get("method") == "Runtime.exceptionThrown":
                self.errors.append(json.dumps(answer["params"])[:400])
            if answer.get("id") == self.count:
                assert "error" not in answer, answer
                return answer["result"]

    def call(self, method: str, arguments: dict[str, Any] | None = None, page: bool = True) -> dict[str, Any]:
        """One protocol command."""
        return self.loop.run_until_complete(self._send(method, arguments or {}, self.page if page else None))

    def open(self, path: Path) -> None:
        """Open a file and wait until it is loaded."""
        self.call("Page.navigate", {"url": path.as_uri()})
        self.wait("document.readyState === 'complete' && !!document.getElementById('place').textContent")

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        found = self.call("Runtime.evaluate", {"expression": script, "returnByValue": True, "awaitPromise": True})
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, condition: str, seconds: float = 30) -> None:
        """Wait until an expression is true."""
        deadline = time.monotonic() + seconds
        while not self.run(f"!!({condition})"):
            assert time.monotonic() < deadline, condition
            time.sleep(0.05)

    def press(self, key: str, shift: bool = False) -> None:
        """One key, down and up."""
        codes = {"Enter": 13, "Tab": 9, "Escape": 27, "ArrowDown": 40, "ArrowUp": 38, "Delete": 46}
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        common = {"key": key, "windowsVirtualKeyCode": codes.get(key, ord(key.upper()[0])), "modifiers": 8 * shift}
        self.call("Input.dispatchKeyEvent", {"type": "keyDown", "text": text, **common})
        self.call("Input.dispatchKeyEvent", {"type": "keyUp", **common})

    def drag(self, start: tuple[int, int], end: tuple[int, int]) -> None:
        """Drag with the left button."""
        for kind, (x, y) in (("mousePressed", start), ("mouseMoved", end), ("mouseReleased", end)):
            self.call("Input.dispatchMouseEvent",
                      {"type": kind, "x": x, "y": y, "button": "left", "buttons": 1, "clickCount": 1})  # fmt: skip

    def screenshot(self, path: Path) -> None:
        """The visible page as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def kill(self) -> None:
        """End the process without warning."""
        self.process.kill()
        self.process.wait()
        self.loop.run_until_complete(self.client.close())
        self.loop.close()
