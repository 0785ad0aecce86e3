"""How a device shows who it is: an Ed25519 signature over every request and the hash of its body.

Nothing is secret on the server, which keeps public keys only. What is signed is one line each of method, path with
query, node, time, nonce and the body's SHA-256.
"""

import base64
import binascii
import hashlib
import re
import secrets
from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

NODE = "x-stillhouse-node"
TIME = "x-stillhouse-time"
NONCE = "x-stillhouse-nonce"
BODY = "x-stillhouse-body"
SIGNATURE = "x-stillhouse-signature"
EMPTY = hashlib.sha256(b"").hexdigest()
"""Hash of a request without a body."""

_FORMS = {
    NODE: r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}",
    TIME: r"\d{1,12}(\.\d{1,9})?",
    NONCE: r"[0-9a-f]{32}",
    BODY: r"[0-9a-f]{64}",
    SIGNATURE: r"[A-Za-z0-9+/]{86}==",
}


def sign(
    key: Ed25519PrivateKey,
    node: str,
    method: str,
    path: str,
    body: str = EMPTY,
    *,
    now: float,
    nonce: str = "",
) -> dict[str, str]:
    """The five headers that show a request to be this node's.

    Args:
        key: the node's private key.
        node: its name.
        method: of the request, such as `PUT`.
        path: with the query, as it is sent.
        body: SHA-256 of the body, in hex.
        now: seconds since 1970.
        nonce: 32 hex digits that were never used before; random when left out.
    """
    headers = {NODE: node, TIME: f"{now:.6f}", NONCE: nonce or secrets.token_hex(16), BODY: body}
    signature = key.sign(_signed(method, path, headers))
    return {**headers, SIGNATURE: base64.b64encode(signature).decode()}


def verify(key: Ed25519PublicKey, method: str, path: str, headers: Mapping[str, str]) -> bool:
    """Whether the headers are well formed and were signed with the key that belongs to `key`, for this request."""
    if not well_formed(headers):
        return False
    try:
        key.verify(base64.b64decode(headers[SIGNATURE]), _signed(method, path, headers))
    except (InvalidSignature, binascii.Error):
        return False
    return True


def well_formed(headers: Mapping[str, str]) -> bool:
    """Whether all five headers are there and look as they should."""
    return all(re.fullmatch(form, headers.get(name, "")) for name, form in _FORMS.items())


def is_node_name(name: str) -> bool:
    """Whether a node may be called so: up to 64 letters, digits, dots, dashes and underscores."""
    return re.fullmatch(_FORMS[NODE], name) is not None


def public_text(key: Ed25519PrivateKey) -> str:
    """The public half of a key as base64 text."""
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


def read_public(text: str) -> Ed25519PublicKey:
    """A public key from what `public_text` gave."""
    return Ed25519PublicKey.from_public_bytes(base64.b64decode(text))


def _signed(method: str, path: str, headers: Mapping[str, str]) -> bytes:
    return "\n".join([method, path, headers[NODE], headers[TIME], headers[NONCE], headers[BODY]]).encode()
