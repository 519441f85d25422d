#!/usr/bin/env python3
"""Checks a docket evidence bundle without docket: standard library and `cryptography` only.

    verify.py BUNDLE.zip VERIFIER-KEY

The verifier key is the one `docket ledger key` printed before there was anything to doubt. Exit code 0: it holds.
"""

import base64
import hashlib
import json
import sys
import zipfile

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def sha256(*pieces):
    return hashlib.sha256(b"".join(pieces)).digest()


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def open_note(note, key):
    """C2SP signed-note: the text, once the key's Ed25519 signature of it is good."""
    name, key_id, encoded = key.strip().split("+", 2)
    public = base64.b64decode(encoded, validate=True)
    assert public[0] == 1 and len(public) == 33, "the key is not an Ed25519 key"
    assert sha256(name.encode(), b"\n", public)[:4].hex() == key_id, "the key's id is not its own"
    text, _, signatures = note.rpartition("\n\n")
    text += "\n"
    for line in signatures.splitlines():
        dash, signer, signature = line.split(" ")
        signature = base64.b64decode(signature, validate=True)
        if dash == "—" and signer == name and signature[:4].hex() == key_id:
            Ed25519PublicKey.from_public_bytes(public[1:]).verify(signature[4:], text.encode())
            assert text.split("\n")[0] == name, "the checkpoint is another log's"
            return text
    raise AssertionError("the checkpoint is not signed by this key")


def root_of(first, leaves, size, proof):
    """RFC 6962: the root of a tree with these leaves from `first` on, and the proof's hashes beside them."""
    end, leaves, proof = first + len(leaves), iter(leaves), iter(proof)

    def climb(start, stop):
        if stop - start == 1:
            return next(leaves)
        middle = start + (1 << ((stop - start - 1).bit_length() - 1))
        left = climb(start, middle) if first < middle else None
        right = climb(middle, stop) if end > middle else None
        left = left or next(proof)
        return sha256(b"\x01", left, right or next(proof))

    root = climb(0, size)
    assert next(proof, None) is None, "the proof has hashes to spare"
    return root


def main(path, key):
    bundle = zipfile.ZipFile(path)
    read = lambda name: bundle.read(name)
    index = json.loads(read("bundle.json"))
    assert index["v"] == 1, "unknown bundle version"

    lines = read("leaves.jsonl").split(b"\n")[:-1]
    leaves = [json.loads(line) for line in lines]
    assert [leaf["seq"] for leaf in leaves] == list(range(index["first"], index["end"])), "a leaf is missing"
    assert leaves and index["end"] <= index["size"], "the range does not lie in the tree"

    origin, size, root = open_note(read("checkpoint").decode(), key).splitlines()[:3]
    assert int(size) == index["size"], "the checkpoint is of another size"
    hashes = [sha256(b"\x00", line) for line in lines]
    proof = [base64.b64decode(hash, validate=True) for hash in index["hashes"]]
    assert root_of(index["first"], hashes, int(size), proof) == base64.b64decode(root), "the leaves are not the log's"

    disclosed = 0
    for line in read("disclosed.jsonl").splitlines():
        entry = json.loads(line)
        leaf = leaves[entry["seq"] - index["first"]]
        for name, part in entry["parts"].items():
            salt = base64.urlsafe_b64decode(part["salt"] + "=")
            committed = base64url(sha256(salt, part["text"].encode()))
            assert len(salt) == 32 and leaf["commitments"][name] == committed, f"{name} of entry {leaf['seq']} was changed"
            disclosed += 1

    policies = [name for name in bundle.namelist() if name.startswith("policies/")]
    for name in policies:
        assert sha256(read(name)).hex() == name.removeprefix("policies/"), f"{name} was changed"
    for manifest in {leaf["manifest_sha"] for leaf in leaves if "manifest_sha" in leaf}:
        files = json.loads(read("policies/" + manifest.removeprefix("sha256:")))["files"]
        assert all("policies/" + file["sha256"] in policies for file in files), f"a file of {manifest} is missing"

    print(f"verified: {len(leaves)} entries of {origin}, {disclosed} disclosed parts, {len(policies)} policy files")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        main(sys.argv[1], sys.argv[2])
    except Exception as error:  # whatever is wrong with a bundle, it is not proved
        sys.exit(f"NOT verified: {type(error).__name__}: {error}")
