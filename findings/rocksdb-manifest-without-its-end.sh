#!/bin/sh
# RocksDB opens a database whose MANIFEST lost its end, and deletes the tables that only it named.
#
# Software: RocksDB as in rocksdict 0.3.29.
#
# The MANIFEST is the list of tables. A disk that loses the last bytes of a file (a write that was
# acknowledged and never made, a copy of a volume that was cut) leaves a list that ends early. With
# `paranoid_checks`, and with the strictest mode for write-ahead logs (absolute consistency), one
# expects an error. But a list that ends early is taken for one that a crash has torn: the database
# opens without a word, keys that had been flushed are gone, and the table that holds them is deleted
# at once, so that no repair finds it later. A cut write-ahead log is refused in the same mode.
# Seen: 100 keys flushed, 50 bytes cut off the MANIFEST; opened with 0 of them, 1 table before, 0 after.
# The cure: remember size and checksum of the MANIFEST outside the database, and compare before opening.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet rocksdict==0.3.29
"$dir/venv/bin/python" - "$dir" <<'EOF'
import os
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

from rocksdict import DBRecoveryMode, Options, Rdict

folder = Path(sys.argv[1])


def options():
    strict = Options(raw_mode=True)
    strict.set_paranoid_checks(True)
    strict.set_wal_recovery_mode(DBRecoveryMode.absolute_consistency())
    return strict


path, copy = folder / "db", folder / "copy"
db = Rdict(str(path), options())
for number in range(100):
    db[b"flushed%03d" % number] = b"x" * 100
db.flush_wal(True)
db.flush(True)
shutil.copytree(path, copy)  # As a kill leaves it: nothing more is written at a close.
db.close()

manifest = copy / (copy / "CURRENT").read_text().strip()
os.truncate(manifest, manifest.stat().st_size - 50)
before = len(list(copy.glob("*.sst")))
db = Rdict(str(copy), options())
keys = sum(1 for _ in db.keys())
db.close()
after = len(list(copy.glob("*.sst")))
print(f"rocksdict {version('rocksdict')}: 50 bytes cut off the MANIFEST, and no error")
print(f"keys: 100 flushed, {keys} there; tables: {before} before, {after} after")
sys.exit(0 if (keys, before, after) == (0, 1, 0) else "this has changed")
EOF
