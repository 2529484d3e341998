"""The reading room: an HTML page with everything it needs, to be opened from a folder without a network."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path

from medvlm.reader_study.packet import Packet, settle, write_bytes

ENGINE = Path(__file__).parent / "reading_room"
SCRIPTS = ("digest.js", "viewer.js", "form.js", "room.js")


@cache
def room_page() -> bytes:
    """The page; it is the same for every reader and study."""
    page = (ENGINE / "room.html").read_text(encoding="utf-8")
    script = "\n".join((ENGINE / name).read_text(encoding="utf-8").strip() for name in SCRIPTS)
    style = (ENGINE / "room.css").read_text(encoding="utf-8").strip()
    return page.replace("{{css}}", style).replace("{{script}}", script).encode()


def packet_script(packet: Packet) -> bytes:
    """The items, as a script: a page that was opened from a folder may not fetch files, but may run them."""
    data = json.dumps(packet.to_json(), ensure_ascii=False, separators=(",", ":"))
    # No `</script>` or line separator of a report may end the script.
    for character, escape in (("<", "\\u003c"), ("\u2028", "\\u2028"), ("\u2029", "\\u2029")):
        data = data.replace(character, escape)
    return f"readingRoom.open({data});\n".encode()


def write_room(folder: Path, packet: Packet, pictures: dict[str, Path]) -> None:
    """Write `room.html`, `packet.js` and `pictures/`; pictures are linked where the file system can.

    Args:
        pictures: name in the packet → prepared picture script.
    """
    write_bytes(folder / "room.html", room_page())
    write_bytes(folder / "packet.js", packet_script(packet))
    for item in packet.items:
        for name in item.pictures:
            target = folder / "pictures" / f"{name}.js"
            target.parent.mkdir(exist_ok=True)
            try:
                os.link(pictures[name], target)
            except OSError:
                target.write_bytes(pictures[name].read_bytes())
                settle(target)
