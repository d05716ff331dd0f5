"""The ledger written and checked anew: every digest, every root and every signature by other implementations of BLAKE3 and Ed25519.

    python -m venv venv
    venv/bin/pip install blake3==1.0.11 cryptography==50.0.2
    venv/bin/python scripts/verify/ledger.py crates/theriac-ledger/tests/golden
    venv/bin/python scripts/verify/ledger.py --check pets/.theriac-ledger [pets]

The first command writes the golden files of the ledger's tests from a small history; Theriac has to write the same bytes:

    ledger.jsonl       eight entries of two authors
    anchor.txt         the anchor of the last one
    present.json       the proof of a sample that was removed and came back
    absent.json        the proof that a sample was never there

The second one recomputes a ledger that Theriac wrote, and the files of its folder if that is named.
"""

import json
import os
import sys
from datetime import datetime, timezone
from pathlib import Path

from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

LEAF, NODE, PATH, VERSION, CHANGES, ENTRY, CONTENT, ANCHOR = range(8)
NOTHING = bytes(32)


def number(value):
    return value.to_bytes(8, "little")


def text(value):
    value = value.encode() if isinstance(value, str) else value
    return number(len(value)) + value


def optional(digest):
    return b"\0" if digest is None else b"\1" + digest


def digest(tag, *parts):
    return blake3(bytes([tag]) + b"".join(parts)).digest()


def compact(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def raw(hexadecimal):
    return None if hexadecimal is None else bytes.fromhex(hexadecimal)


def of_file(content):
    return digest(CONTENT, text("file"), text(content))


def version_digest(version):
    content, entry, time, actor, before = version
    return digest(VERSION, optional(content), number(entry), number(time), text(actor), optional(before))


def changes_digest(changes):
    parts = [text(key) + optional(raw(before)) + optional(raw(after)) for key, before, after in changes]
    return digest(CHANGES, number(len(changes)), *parts)


def entry_digest(header):
    return digest(ENTRY, text(compact(header)))


def bit(path, at):
    return path[at // 8] >> (7 - at % 8) & 1


def root_of(leaves, depth=0):
    """The root of the trie over pairs of path and version."""
    if not leaves:
        return NOTHING
    if len(leaves) == 1:
        return digest(LEAF, *leaves[0])
    return digest(NODE, *(root_of([leaf for leaf in leaves if bit(leaf[0], depth) == side], depth + 1) for side in (0, 1)))


def way(leaves, path, depth=0):
    """The digests beside the way to a path, from the root, and the leaves at its end."""
    if len(leaves) <= 1:
        return [], leaves
    sides = [[leaf for leaf in leaves if bit(leaf[0], depth) == side] for side in (0, 1)]
    beside, end = way(sides[bit(path, depth)], path, depth + 1)
    return [root_of(sides[1 - bit(path, depth)], depth + 1)] + beside, end


def leaves_of(versions):
    return [(digest(PATH, text(key)), version_digest(history[-1])) for key, history in versions.items()]


def message(header):
    return b"theriac ledger entry v1\0" + entry_digest(header)


class Ledger:
    """The state that entries lead to."""

    def __init__(self):
        self.versions, self.headers = {}, []

    def content(self, key):
        return self.versions[key][-1][0] if key in self.versions else None

    def apply(self, header, changes):
        for key, before, after in changes:
            assert self.content(key) == raw(before) != raw(after), key
            history = self.versions.setdefault(key, [])
            last = version_digest(history[-1]) if history else None
            history.append((raw(after), header["number"], header["time"], header["actor"], last))

    def lead_to(self):
        count = sum(history[-1][0] is not None for history in self.versions.values())
        return {"root": root_of(leaves_of(self.versions)).hex(), "keys": len(self.versions), "count": count}


def check(folder, data):
    ledger, admitted = Ledger(), {}
    lines = (folder / "ledger.jsonl").read_bytes().split(b"\n")
    assert lines.pop() == b"", "the last line has no end"
    for at, line in enumerate(lines):
        entry = json.loads(line)
        header, changes = entry["header"], entry["changes"]
        assert compact(entry).encode() == line and list(entry) == ["header", "changes", "signature"], at
        assert header["number"] == at
        assert header["before"] == (entry_digest(ledger.headers[-1]).hex() if at else None)
        assert not at or header["time"] >= ledger.headers[-1]["time"]
        assert header["changed"] == len(changes) and header["changes"] == changes_digest(changes).hex()
        assert [change[0] for change in changes] == sorted({change[0] for change in changes}, key=str.encode)
        action = header["action"]
        if not at:
            assert action["kind"] == "init"
            admitted[header["public"]] = header["actor"], header["role"]
        assert admitted[header["public"]] == (header["actor"], header["role"])
        Ed25519PublicKey.from_public_bytes(raw(header["public"])).verify(raw(entry["signature"]), message(header))
        if action["kind"] == "admit":
            admitted[action["public"]] = action["actor"], action["role"]
        if action["kind"] == "retire":
            del admitted[action["public"]]
        ledger.apply(header, changes)
        assert ledger.lead_to().items() <= header.items(), at
        ledger.headers.append(header)
    if data is not None:
        inside = lambda path: folder.resolve() in path.resolve().parents
        paths = [path for path in data.rglob("*") if path.is_file() and not path.is_symlink() and not inside(path)]
        there = {path.relative_to(data).as_posix(): of_file(path.read_bytes()) for path in paths}
        assert there == {key: ledger.content(key) for key in ledger.versions if ledger.content(key)}, "the files differ"
    for name in sorted(folder.glob("*.json")):
        check_proof(json.loads(name.read_text()), ledger.headers)
    print(f"{len(lines)} entries, {ledger.lead_to()['count']} samples: all digests, roots and signatures are right")


def check_proof(proof, headers):
    assert proof["header"] in headers
    before = None
    for told in proof["versions"]:
        before = version_digest((raw(told["content"]), told["entry"], told["time"], told["actor"], before))
    path = digest(PATH, text(proof["sample"]))
    leaf = (path, before) if before else proof["instead"] and tuple(map(raw, proof["instead"]))
    at = digest(LEAF, *leaf) if leaf else NOTHING
    for depth, beside in reversed(list(enumerate(proof["beside"]))):
        pair = (at, raw(beside) or NOTHING)
        assert not leaf or bit(leaf[0], depth) == bit(path, depth)
        at = digest(NODE, *(pair if bit(path, depth) == 0 else pair[::-1]))
    assert at.hex() == proof["header"]["root"]


SECRETS = {"ada": bytes([1]) * 32, "bob": bytes([2]) * 32}
ROLES = {"ada": "engineer", "bob": "annotator"}
BEGIN = 1_795_795_265


def public(actor):
    key = Ed25519PrivateKey.from_private_bytes(SECRETS[actor])
    return key.public_key().public_bytes_raw().hex()


def write(folder):
    ledger, lines, files, entries = Ledger(), [], {}, []

    def append(actor, action, note="", changed={}):
        files.update({key: content.encode() if content is not None else None for key, content in changed.items()})
        shown = lambda content: None if content is None else content.hex()
        after = {key: None if files[key] is None else of_file(files[key]) for key in changed}
        changes = [[key, shown(ledger.content(key)), shown(after[key])] for key in sorted(changed)]
        header = {
            "number": len(lines), "time": BEGIN + 60 * len(lines), "actor": actor, "role": ROLES[actor],
            "public": public(actor), "stage": "store", "action": action, "note": note, "changed": len(changes),
            "changes": changes_digest(changes).hex(),
            "before": entry_digest(ledger.headers[-1]).hex() if lines else None,
        }
        ledger.apply(header, changes)
        header |= ledger.lead_to()
        signature = Ed25519PrivateKey.from_private_bytes(SECRETS[actor]).sign(message(header)).hex()
        lines.append(compact({"header": header, "changes": changes, "signature": signature}) + "\n")
        ledger.headers.append(header)
        entries.append(signature)

    change = {"kind": "change", "whole": True}
    first = {f"{kind}/{at}.png": f"{kind} {at}" for kind in ("cat", "dog") for at in range(6)}
    append("ada", {"kind": "init", "data": "pets", "form": "folder"}, changed=first)
    append("ada", {"kind": "admit", "actor": "bob", "role": "annotator", "public": public("bob")})
    append("bob", change, 'this is "no" cat\n\u00fc \u0007', {"cat/1.png": None, "dog/9.png": "cat 1"})
    root = ledger.headers[-1]["root"]
    recipe, model = of_file(b"recipe").hex(), of_file(b"model").hex()
    append("ada", {"kind": "train", "data": root, "recipe": recipe, "model": model})
    append("bob", change, changed={"cat/2.png": "cat 2, again", "cat/3.png": None})
    append("ada", {"kind": "retire", "public": public("bob")}, "left")
    append("ada", {"kind": "attest"})
    append("ada", change, "it is one", {"cat/1.png": "cat 1", "dog/9.png": None})

    (folder / "ledger.jsonl").write_bytes("".join(lines).encode())
    head = ledger.headers[-1]
    utc = datetime.fromtimestamp(head["time"], timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    body = (
        f"theriac ledger anchor, version 1\nledger {entry_digest(ledger.headers[0]).hex()}\nentry {head['number']}\n"
        f"time {head['time']} {utc}\nhead {entry_digest(head).hex()}\nroot {head['root']}\ncount {head['count']}\n"
    )
    (folder / "anchor.txt").write_bytes(f"{body}check {digest(ANCHOR, text(body)).hex()[:8]}\n".encode())
    for name, key in [("present", "cat/1.png"), ("absent", "cat/7.png")]:
        beside, end = way(leaves_of(ledger.versions), digest(PATH, text(key)))
        told = [
            {"content": None if content is None else content.hex(), "entry": entry, "time": time, "actor": actor}
            for content, entry, time, actor, _ in ledger.versions.get(key, [])
        ]
        instead = [part.hex() for part in end[0]] if end and not told else None
        proof = {
            "format": "theriac-ledger-proof-1", "sample": key, "versions": told,
            "beside": [None if part == NOTHING else part.hex() for part in beside], "instead": instead,
            "header": head, "signature": entries[-1],
        }
        (folder / f"{name}.json").write_bytes((json.dumps(proof, ensure_ascii=False, indent=2) + "\n").encode())
    check(folder, None)


if __name__ == "__main__":
    if sys.argv[1] == "--check":
        check(Path(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) > 3 else None)
    else:
        os.makedirs(sys.argv[1], exist_ok=True)
        write(Path(sys.argv[1]))
