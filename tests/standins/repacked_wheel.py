"""Another release of a package for tests: what is installed of it, packed as a wheel of another version.

Usage: repacked_wheel.py SITE_PACKAGES NAME VERSION DIRECTORY

Writes DIRECTORY/simple/NAME/…whl, so that DIRECTORY, listed by `python3 -m http.server`, is a package index. Prints
the sha256 of the wheel, which is the same for the same files.
"""

import base64
import csv
import hashlib
import io
import re
import sys
import zipfile
from pathlib import Path


def repack(site, name, version, directory):
    """Path of the wheel."""
    (info,) = site.glob(f"{name}-*.dist-info")
    before = info.name.removesuffix(".dist-info").removeprefix(name + "-")
    rows = [row for row in csv.reader((info / "RECORD").read_text(encoding="utf-8").splitlines()) if row[1]]
    texts = {}
    for path, _digest, _size in rows:
        # What an installer notes is none of the wheel's.
        if not path.endswith((".pyc", "/INSTALLER", "/REQUESTED", "/direct_url.json")) and not path.startswith(".."):
            texts[path.replace(info.name, f"{name}-{version}.dist-info")] = (site / path).read_bytes()
    metadata = f"{name}-{version}.dist-info/METADATA"
    texts[metadata] = texts[metadata].replace(f"\nVersion: {before}\n".encode(), f"\nVersion: {version}\n".encode(), 1)
    record = io.StringIO()
    lines = csv.writer(record, lineterminator="\n")
    for path in sorted(texts):
        lines.writerow((path, "sha256=" + digest(texts[path]), len(texts[path])))
    lines.writerow((f"{name}-{version}.dist-info/RECORD", "", ""))
    texts[f"{name}-{version}.dist-info/RECORD"] = record.getvalue().encode()
    tags = re.findall(r"^Tag: (\S+)$", (info / "WHEEL").read_text(encoding="utf-8"), re.M)
    wheel = directory / "simple" / name / f"{name}-{version}-{tags[-1]}.whl"
    wheel.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel, "w") as archive:
        for path in sorted(texts):
            # Of no date, and not packed: the same bytes everywhere.
            archive.writestr(zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0)), texts[path])
    return wheel


def digest(text):
    """As RECORD has it."""
    return base64.urlsafe_b64encode(hashlib.sha256(text).digest()).decode().rstrip("=")


if __name__ == "__main__":
    made = repack(Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]))
    print(hashlib.sha256(made.read_bytes()).hexdigest())
