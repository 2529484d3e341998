"""Files of packets by kind: what each may hold, and nothing else."""

from __future__ import annotations

import base64
import binascii
import csv
import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

from medvlm.reader_study.leak_text import LeakFound, TextScanner
from medvlm.reader_study.packet import FIXED_ZIP_TIME

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_CHUNKS = {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"gAMA", b"sRGB", b"pHYs"}
_PACKET_KEYS = {
    "packet", "title", "reader", "session", "earliest", "commitment", "form", "categories", "significance", "items",
    "files",
}  # fmt: skip
_ITEM_KEYS = {"code", "report", "right", "pictures", "note", "reference", "heading", "sentences"}
_FORM_KEYS = {
    "id", "title", "version", "questions", "kind", "text", "required", "minimum", "maximum", "section", "help",
    "options",
}  # fmt: skip
_PICTURE_KEYS = {
    "rows", "columns", "count", "colour", "aspect", "centre", "width", "slope", "intercept", "unit", "slices"
}  # fmt: skip
_TASK_KEYS = {
    "data", "item_code", "packet", "reader_code", "session", "position", "report_text", "report_right", "image"
}  # fmt: skip
_RECORD_COLUMNS = {
    "record_id", "redcap_data_access_group", "item_code", "packet_id", "session_number", "item_position", "report_text",
    "report_right", "rating_complete",
}  # fmt: skip
# Texts that the writers make: the place of an image in Label Studio, the first day of a sitting.
_OWN_TEXT = re.compile(r"/data/local-files/\?d=images/[A-Z0-9]{6}\.png|Not to be read before \d{4}-\d\d-\d\d\.")


def inspect_bytes(suffix: str, data: bytes, text: TextScanner) -> list[LeakFound]:
    """Leaks in the content of one file, judged by what it is, not by what it is called."""
    if data.startswith(_PNG):
        return _png(data, text)
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg(data, text)
    if data[128:132] == b"DICM":
        return _dicom(data, text)
    if data.startswith(b"PK"):
        return _zip(data, text)
    readers: dict[str, Callable[[str, TextScanner], list[LeakFound]]] = {
        ".js": _script, ".json": _json, ".csv": _table, ".xml": _markup, ".html": _markup, ".txt": _plain
    }  # fmt: skip
    if suffix not in readers:
        return [("unknown file", suffix or "no suffix"), *text.find(data.decode("latin-1"))]
    try:
        return readers[suffix](data.decode("utf-8"), text)
    except UnicodeDecodeError:
        return [("unknown file", "not UTF-8"), *text.find(data.decode("latin-1"))]


def _png(data: bytes, text: TextScanner) -> list[LeakFound]:
    found: list[LeakFound] = []
    place = 8
    while place + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        if kind not in _PNG_CHUNKS:
            found.append(("image metadata", kind.decode("latin-1")))
            found += text.find(data[place + 8 : place + 8 + length].decode("latin-1"))
        place += 12 + length
        if kind == b"IEND":
            break
    if len(data) > place:
        found.append(("trailing bytes", f"{len(data) - place} bytes after the image"))
        found += text.find_names(data[place:].decode("latin-1"))
    return found


def _jpeg(data: bytes, text: TextScanner) -> list[LeakFound]:
    found: list[LeakFound] = []
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != 0xDA:
        marker, length = data[place + 1], struct.unpack(">H", data[place + 2 : place + 4])[0]
        if 0xE1 <= marker <= 0xEF or marker == 0xFE:
            found.append(("image metadata", f"segment {marker:02X}"))
            found += text.find_names(data[place + 4 : place + 2 + length].decode("latin-1"))
        place += 2 + length
    if not data.rstrip(b"\0").endswith(b"\xff\xd9"):
        found.append(("trailing bytes", "bytes after the image"))
    return found


def _zip(data: bytes, text: TextScanner) -> list[LeakFound]:
    found: list[LeakFound] = []
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except zipfile.BadZipFile:
        return [("unknown file", "not a readable archive")]
    with archive:
        if archive.comment:
            found += [("archive metadata", "a comment"), *text.find_names(archive.comment.decode("latin-1"))]
        end = data.rfind(b"PK\x05\x06")
        if end + 22 + len(archive.comment) != len(data):
            found.append(("trailing bytes", "bytes after the archive"))
        for entry in archive.infolist():
            if entry.date_time != FIXED_ZIP_TIME or entry.extra or entry.comment:
                found.append(("archive metadata", entry.filename))
            found += [("file name", what) for _, what in text.find_names(entry.filename)]
            content = archive.read(entry)
            if entry.filename.startswith("docProps/"):
                found += _properties(content.decode("utf-8", "replace"))
            found += inspect_bytes("." + entry.filename.rpartition(".")[2].replace("rels", "xml"), content, text)
    return found


def _properties(content: str) -> list[LeakFound]:
    named = re.findall(
        r"<(?:\w+:)?(creator|lastModifiedBy|created|modified|Company|Manager|Application|title|subject|description"
        r"|keywords)\b[^>]*>[^<]+<",
        content,
    )
    return [("document properties", name) for name in named]


def _script(content: str, text: TextScanner) -> list[LeakFound]:
    opened = re.fullmatch(r"readingRoom\.open\((\{.*\})\);\n", content, re.S)
    if opened:
        return _packet(opened[1], text)
    picture = re.fullmatch(r"readingRoom\.picture\(document\.currentScript\.src,(\[.*\])\)\n", content, re.S)
    if picture:
        return _pictures(picture[1], text)
    return [("unknown file", "a script that is not a packet"), *text.find(content)]


def _json(content: str, text: TextScanner) -> list[LeakFound]:
    try:
        data = json.loads(content)
    except json.JSONDecodeError:
        return [("unknown file", "not JSON"), *text.find(content)]
    if isinstance(data, dict) and "packet" in data:
        return _packet(content, text)
    return _walk(data, _TASK_KEYS, text)


def _packet(content: str, text: TextScanner) -> list[LeakFound]:
    try:
        data = json.loads(content)
    except json.JSONDecodeError:
        return [("unknown file", "not a packet"), *text.find(content)]
    form = data.pop("form", {})
    found = [("unknown key", key) for key in set(data) - _PACKET_KEYS]
    for row in data.get("items", []):
        found += _walk(row, _ITEM_KEYS, text, prose=True) if isinstance(row, dict) else []
    found += _walk(form, _FORM_KEYS, text, names=False)
    files = data.pop("files", {})
    for name in files:
        found += [("file name", what) for _, what in text.find_names(name)]
    for key in set(data) - {"items", "categories", "significance", "earliest", "commitment", "packet", "reader"}:
        found += _walk(data[key], set(), text)
    return found


def _walk(value: Any, keys: set[str], text: TextScanner, prose: bool = False, names: bool = True) -> list[LeakFound]:
    """Leaks in all strings and keys of a JSON value; `names` also compares strings with the study's names."""
    found: list[LeakFound] = []
    if isinstance(value, dict):
        for key, item in value.items():
            if key not in keys:
                found += [("unknown key", key), *text.find(key)]
            found += _walk(item, keys, text, prose, names)
    elif isinstance(value, list):
        for item in value:
            found += _walk(item, keys, text, prose, names)
    elif isinstance(value, str) and value and not _OWN_TEXT.fullmatch(value):
        leaks = text.find(value, prose)
        found += leaks if names else [leak for leak in leaks if leak[0] not in ("source name",)]
    return found


def _pictures(content: str, text: TextScanner) -> list[LeakFound]:
    try:
        stacks = json.loads(content)
    except json.JSONDecodeError:
        return [("unknown file", "not a picture"), *text.find(content)]
    found: list[LeakFound] = []
    for stack in stacks:
        slices = stack.pop("slices", [])
        found += [("unknown key", key) for key in set(stack) - _PICTURE_KEYS]
        found += _walk(list(stack.values()), set(), text)
        size = stack["rows"] * stack["columns"] * (3 if stack["colour"] else 2)
        for piece in slices:
            try:
                unpacker = zlib.decompressobj()
                pixels = unpacker.decompress(base64.b64decode(piece, validate=True))
            except (zlib.error, binascii.Error, ValueError):
                found.append(("trailing bytes", "a slice that cannot be unpacked"))
                continue
            if len(pixels) != size or unpacker.unused_data:
                found.append(("trailing bytes", "a slice of another size"))
    return found


def _table(content: str, text: TextScanner) -> list[LeakFound]:
    rows = list(csv.reader(io.StringIO(content)))
    found: list[LeakFound] = []
    if rows and rows[0] and rows[0][0] == "record_id":
        found += [("unknown key", name) for name in rows[0] if name not in _RECORD_COLUMNS]
    dictionary = bool(rows) and rows[0] and rows[0][0] != "record_id"
    for row in rows[1:]:
        for cell in row:
            leaks = text.find(cell)
            found += [leak for leak in leaks if not (dictionary and leak[0] == "source name")]
    return found


def _markup(content: str, text: TextScanner) -> list[LeakFound]:
    found: list[LeakFound] = []
    if "<!--" in content:
        found.append(("HTML comment", content.split("<!--", 1)[1][:20]))
    if re.search(r"<meta[^>]+(?:author|generator|keywords)", content, re.I):
        found.append(("HTML comment", "a generator or author"))
    bare = re.sub(r"https?://(?:schemas\.openxmlformats\.org|www\.w3\.org|purl\.org)[\w./#-]*", "", content)
    if "openxmlformats" in content:  # cells: what stands between tags
        cells = re.findall(r">([^<]+)<", bare)
        bare = "\n".join(cell for cell in cells if not _OWN_TEXT.fullmatch(cell))
    return found + text.find(bare)


def _plain(content: str, text: TextScanner) -> list[LeakFound]:
    return text.find(content)


def _dicom(data: bytes, text: TextScanner) -> list[LeakFound]:
    import pydicom
    from pydicom.errors import InvalidDicomError

    found: list[LeakFound] = []
    if data[:128].strip(b"\0"):
        found += [("DICOM preamble", "bytes in the preamble"), *text.find_names(data[:128].decode("latin-1"))]
    try:
        dataset = pydicom.dcmread(io.BytesIO(data))
    except (InvalidDicomError, ValueError, KeyError, EOFError) as error:
        return [*found, ("unknown file", f"not a readable DICOM file ({type(error).__name__})")]
    if str(dataset.get("PatientIdentityRemoved", "")) != "YES":
        found.append(("DICOM identity", "not marked as de-identified"))
    if str(dataset.get("BurnedInAnnotation", "")).upper() == "YES":
        found.append(("burned-in text", "BurnedInAnnotation is YES"))
    for element in dataset.iterall():
        value = str(element.value) if element.VR not in ("OB", "OW", "SQ", "UN", "OF", "OD") else ""
        if element.tag.is_private:
            found.append(("DICOM private tag", str(element.tag)))
            raw = element.value if isinstance(element.value, bytes) else str(element.value).encode()
            found += text.find_names(raw.decode("latin-1"))
        elif element.VR == "PN" and value and not re.fullmatch(r"P[0-9A-F]{12}", value):
            found.append(("DICOM identity", element.keyword))
        elif (element.VR == "UI" and element.keyword.endswith("InstanceUID") and not value.startswith("2.25.")) or (
            element.VR in ("DA", "DT") and "Birth" in element.keyword and value
        ):
            found.append(("DICOM date or uid", element.keyword))
        elif element.VR in ("LO", "SH", "LT", "ST", "UT", "UC", "CS", "AE", "DA", "UI") and value:
            leaks = text.find_names(value)
            found += [("DICOM identity", f"{element.keyword}: {what}") for _, what in leaks]
    return found
