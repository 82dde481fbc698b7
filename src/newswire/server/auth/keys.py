"""Keys that tokens are verified with, each with the algorithms that it is for.

A token says in its head how it was signed, and an attacker writes that head. So a key here has its algorithms from its
own kind: a public RSA key never verifies an HMAC ("key confusion"), and `none` belongs to no key. Read from a shared
secret, a PEM file, or a JSON Web Key (Set).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from newswire.extras import Extra
from newswire.validate import check_secret

HMAC: Final = frozenset({"HS256", "HS384", "HS512"})
RSA: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_CURVES: Final = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "secp256k1": "ES256K"}
_NAMES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512", "secp256k1": "ES256K"}
ALGORITHMS: Final = HMAC | RSA | frozenset(_CURVES.values()) | {"EdDSA"}
"""All that there are. `none` is not among them."""

WEAK: Final = 32
"""Bytes below which a secret can be guessed from one token (RFC 7518, section 3.2)."""
_RSA_BITS: Final = 2048
_BLOCK: Final = 64


@dataclass(frozen=True, slots=True)
class Key:
    """A key that verifies.

    Attributes:
        material: what PyJWT takes.
        algorithms: those that it is for.
        id: its `kid`; None: it is tried for every token.
    """

    material: Any
    algorithms: frozenset[str]
    id: str | None = None


def secret_key(secret: str | bytes, id: str | None = None, algorithms: frozenset[str] = HMAC) -> Key:
    """A key of a shared secret.

    Raises:
        ValueError: it is empty, or is a public key, which is no secret.
    """
    if not isinstance(secret, bytes):
        check_secret("a secret", secret)
    raw = secret.encode() if isinstance(secret, str) else secret
    if not raw:
        raise ValueError("a secret must not be empty")
    if b"-----BEGIN " in raw or raw.startswith(b"ssh-"):
        raise ValueError("this is a key in PEM form and no secret: give its file as --jwt-key")
    # HMAC pads its key with zeros to a whole block (RFC 2104), so this is the same key; PyJWT's warning about a short
    # one would come with every token, and ours has come at the start.
    return Key(raw.ljust(_BLOCK, b"\0"), algorithms, id)


def read_keys(path: str | Path) -> list[Key]:
    """The keys of a file: a public key or certificate in PEM form, a JWK, or a JWK Set.

    Raises:
        ValueError: it can't be read, or has no key that verifies; the message is for people.
        ImportError: PyJWT or cryptography is not installed.
    """
    try:
        text = Path(path).read_text("utf-8")
    except OSError as error:
        raise ValueError(f"it can't be read: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError:
        raise ValueError("it is neither PEM nor JSON") from None
    with Extra("reading keys", "auth"):
        if text.lstrip().startswith("{"):
            try:
                value = json.loads(text)
            except (ValueError, RecursionError):
                raise ValueError("it is not JSON") from None
            return keys_of_set(value if "keys" in value else {"keys": [value]}, secrets=True)
        return [_pem_key(text)]


def keys_of_set(value: Any, *, secrets: bool) -> list[Key]:
    """The keys of a JWK Set that verify signatures. Others are left out.

    Args:
        value: the parsed JSON.
        secrets: whether secrets (`oct`) are among them. One that is published at a URL is no secret.

    Raises:
        ValueError: it is no JWK Set, or has none.
    """
    listed = value.get("keys") if isinstance(value, Mapping) else None
    if not isinstance(listed, list):
        raise ValueError("it is no JWK Set: an object with a list of `keys`")
    found = [key for one in listed if isinstance(one, Mapping) and (key := _jwk_key(one, secrets)) is not None]
    if not found:
        raise ValueError("it has no key that this server can verify a signature with")
    return found


def _jwk_key(jwk: Mapping[str, Any], secrets: bool) -> Key | None:
    from jwt import PyJWK
    from jwt.exceptions import PyJWTError

    operations = jwk.get("key_ops")
    if jwk.get("use", "sig") != "sig" or (isinstance(operations, list) and "verify" not in operations):
        return None
    possible = {
        "oct": HMAC if secrets else frozenset[str](),
        "RSA": RSA,
        "EC": frozenset({_CURVES.get(str(jwk.get("crv")), "")}),
        "OKP": frozenset({"EdDSA"}),
    }.get(str(jwk.get("kty")), frozenset[str]()) & ALGORITHMS
    named = jwk.get("alg")
    algorithms = possible if named is None else possible & {str(named)}
    id = jwk.get("kid")
    if not algorithms or "d" in jwk:  # a private key in a file of public ones is a slip that should show
        return None
    try:
        material = PyJWK(dict(jwk), min(algorithms)).key
        if jwk["kty"] == "oct":
            return secret_key(material, id if isinstance(id, str) else None, algorithms)
        _check_size(material)
    except (PyJWTError, ValueError):
        return None
    return Key(material, algorithms, id if isinstance(id, str) else None)


def _pem_key(text: str) -> Key:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    if "PRIVATE KEY-----" in text:
        raise ValueError("it is a private key: give the public one, which is all that verifying needs")
    try:
        if "-----BEGIN CERTIFICATE-----" in text:
            key: Any = x509.load_pem_x509_certificate(text.encode()).public_key()
        else:
            key = load_pem_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("it has no public key in PEM form, and no JSON Web Key") from None
    if isinstance(key, RSAPublicKey):
        _check_size(key)
        return Key(key, RSA)
    if isinstance(key, EllipticCurvePublicKey) and key.curve.name in _NAMES:
        return Key(key, frozenset({_NAMES[key.curve.name]}))
    if isinstance(key, (Ed25519PublicKey, Ed448PublicKey)):
        return Key(key, frozenset({"EdDSA"}))
    raise ValueError(f"it is a {type(key).__name__}, which signs no tokens")


def _check_size(key: Any) -> None:
    bits = getattr(key, "key_size", _RSA_BITS)
    if hasattr(key, "public_numbers") and hasattr(key.public_numbers(), "e") and bits < _RSA_BITS:
        raise ValueError(f"it is an RSA key of {bits} bits, and {_RSA_BITS} are the least")
