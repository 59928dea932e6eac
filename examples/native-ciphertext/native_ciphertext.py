#!/usr/bin/env python3
"""Reads ciphertexts and the public key from a node of a native chain, with nothing but Python's standard library.

    native_ciphertext.py --rpc http://127.0.0.1:8545 0x3f…00 --out value.bin
    native_ciphertext.py --rpc http://127.0.0.1:8545 --contract 0x5FbD…aa3 --slot 0
    native_ciphertext.py --rpc http://127.0.0.1:8545 --public-key --out public_key.bin

A handle is what an encrypted variable of a contract holds. Anybody may read its ciphertext; only the KMS can decrypt it, and does so for whom the
contract allows it.
"""

import argparse
import hashlib
import json
import sys
import urllib.error
import urllib.request

# The library of the chain's nodes. No contract stands there.
FHELIB = "0x000000000000000000000000000000000000005d"

# The account whose storage holds the ciphertexts.
CIPHERTEXT_STORAGE = "0x000000000000000000000000000000000000005e"

# The first four bytes of keccak256("getCiphertext(uint256)"). They must be there: the handle alone is no call.
GET_CIPHERTEXT = "ff627e77"

# The first four bytes of keccak256("fhePubKey(bytes1)"), and the kind of key: the compact public key.
FHE_PUB_KEY = "d9d47bb0"
COMPACT_PUBLIC_KEY = "01" + "00" * 31

# More than any ciphertext or key has.
MAX_BYTES = 4 << 20

# Storage slots that are asked for at once.
SLOTS_PER_CALL = 128


class Failure(Exception):
    """Something that the caller is told in one line."""


def rpc(url, method, params):
    """Calls a method of the node and returns its result."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    request = urllib.request.Request(url, body, {"content-type": "application/json"})
    try:
        # Each byte is two digits; there is some JSON around them.
        limit = 2 * MAX_BYTES + (1 << 20)
        with urllib.request.urlopen(request, timeout=30) as response:
            text = response.read(limit + 1)
        if len(text) > limit:
            raise Failure(f"the answer to {method} is longer than {limit} bytes")
        answer = json.loads(text)
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise Failure(f"the node at {url} cannot be asked: {error}") from error
    if not isinstance(answer, dict) or "error" in answer:
        error = answer.get("error") if isinstance(answer, dict) else answer
        message = error.get("message", error) if isinstance(error, dict) else error
        raise Failure(f"{method}: the node answers: {message}")
    return answer.get("result")


def from_hex(text, what):
    """Reads hexadecimal digits with 0x."""
    try:
        if not text.startswith("0x"):
            raise ValueError
        return bytes.fromhex(text[2:])
    except (AttributeError, ValueError):
        raise Failure(f"{what} is not hexadecimal with 0x: {text!r:.80}") from None


def call_library(url, data):
    """Calls the library of the node. The answer is the raw bytes, without the offsets and lengths of an ABI encoding."""
    answer = from_hex(rpc(url, "eth_call", [{"to": FHELIB, "data": "0x" + data}, "latest"]), "the answer")
    if not answer:
        raise Failure("nothing is there: this is no native chain")
    return answer


def get_ciphertext(url, handle):
    """Returns the ciphertext of a handle: the selector, then the handle."""
    return call_library(url, GET_CIPHERTEXT + handle.hex())


def get_public_key(url):
    """Returns the key that inputs are encrypted to."""
    return call_library(url, FHE_PUB_KEY + COMPACT_PUBLIC_KEY)


def handle_in(url, contract, slot):
    """Reads a handle from a contract's storage."""
    word = from_hex(rpc(url, "eth_getStorageAt", [contract, hex(slot), "latest"]), "the word in storage")
    if not any(word):
        raise Failure(f"slot {slot} of {contract} holds nothing")
    return word


def words(url, slots):
    """Reads words of the account that holds the ciphertexts."""
    for start in range(0, len(slots), SLOTS_PER_CALL):
        part = slots[start : start + SLOTS_PER_CALL]
        proof = rpc(url, "eth_getProof", [CIPHERTEXT_STORAGE, [f"0x{slot:064x}" for slot in part], "latest"])
        for entry in proof["storageProof"]:
            yield int(entry["value"], 16).to_bytes(32, "big")


def ciphertext_in_state(url, handle):
    """Reads the same bytes from the chain's state: at the handle's own slot the length, the bytes from the next slot on, 32 in each."""
    first = int.from_bytes(handle, "big")
    (metadata,) = words(url, [first])
    kind, length = int.from_bytes(metadata[16:24], "big"), int.from_bytes(metadata[24:], "big")
    if kind != handle[30] or not 0 < length <= MAX_BYTES:
        raise Failure(f"the state has no ciphertext of 0x{handle.hex()}")
    slots = [(first + 1 + index) % (1 << 256) for index in range((length + 31) // 32)]
    return b"".join(words(url, slots))[:length]


def parse_arguments():
    description, _, details = __doc__.partition("\n")
    parser = argparse.ArgumentParser(description=description, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("handle", nargs="?", help="the handle, 32 bytes in hexadecimal")
    parser.add_argument("--rpc", default="http://127.0.0.1:8545", help="the node's URL (default: %(default)s)")
    parser.add_argument("--contract", help="read the handle from this contract's storage")
    parser.add_argument("--slot", type=lambda text: int(text, 0), help="the number of the slot in it")
    parser.add_argument("--public-key", action="store_true", help="read the public key")
    parser.add_argument("--check-state", action="store_true", help="read the ciphertext from the state too, and compare")
    parser.add_argument("--out", help="write the bytes into this file")
    arguments = parser.parse_args()
    chosen = [arguments.handle is not None, arguments.contract is not None, arguments.public_key]
    if sum(chosen) != 1 or (arguments.contract is None) != (arguments.slot is None):
        parser.error("give a handle, or --contract with --slot, or --public-key")
    if arguments.public_key and arguments.check_state:
        parser.error("--check-state is about ciphertexts")
    return arguments


def read(arguments):
    """Reads what was asked for and says what it is."""
    if arguments.public_key:
        return "public key", get_public_key(arguments.rpc)
    if arguments.handle is not None:
        handle = from_hex(arguments.handle, "the handle")
    else:
        handle = handle_in(arguments.rpc, arguments.contract, arguments.slot)
    if len(handle) != 32:
        raise Failure(f"a handle has 32 bytes, not {len(handle)}")
    ciphertext = get_ciphertext(arguments.rpc, handle)
    if arguments.check_state and ciphertext_in_state(arguments.rpc, handle) != ciphertext:
        raise Failure("the state of the chain has other bytes than the node's library gives")
    return f"ciphertext of 0x{handle.hex()}, type {handle[30]}", ciphertext


def main():
    arguments = parse_arguments()
    try:
        what, content = read(arguments)
        if arguments.out is not None:
            with open(arguments.out, "wb") as file:
                file.write(content)
    except (Failure, OSError) as error:
        print(f"{sys.argv[0]}: {error}", file=sys.stderr)
        return 1
    print(f"{what}: {len(content)} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
