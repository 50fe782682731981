"""Configs of connectors: wished and present compared, secrets told from the rest."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_mlplatform.exceptions import ConfigurationError

__all__ = [
    "MASK",
    "Config",
    "Difference",
    "as_text",
    "complete",
    "differences",
    "is_masked",
    "masked",
    "scrubbed",
    "secret_values",
]

Config = Mapping[str, str]

MASK = "********"
OURS = frozenset({"name"})
_MASKED = re.compile(r"\*{4,}|\[hidden\]|\[redacted\]", re.IGNORECASE)
# Whole words of a key, so that `primary.key.mode` and `key.converter` are none.
_SECRET_KEY = re.compile(
    r"passw(or)?d|passphrase|secret|token(?!s?\.max)|credential|jaas|private[._-]?key|api[._-]?key|access[._-]?key"
    r"|keystore\.key|auth\.user\.info|sas[._-]?key|(?:^|[._-])pass(?:$|[._-])",
    re.IGNORECASE,
)
_REFERENCE = re.compile(r"\$\{[^${}]+\}")
_IN_ADDRESS = re.compile(
    r"(?<=://)(?P<user>[^/@:\s]*):(?P<address>[^/@\s]+)(?=@)|(?P<name>password|pwd|secret|token)=(?P<value>[^&;\s]+)",
    re.IGNORECASE,
)
_SHORTEST = 4


def as_text(config: Mapping[str, Any]) -> dict[str, str]:
    """Return a config as Connect keeps it: numbers and booleans as text, lists with commas; ``None`` is left out.

    :raises ConfigurationError: for values that Connect has no place for.
    """
    return {str(key): _text(str(key), value) for key, value in config.items() if value is not None}


def _text(key: str, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    if isinstance(value, (list, tuple)) and all(isinstance(item, (str, int, float)) for item in value):
        return ",".join(_text(key, item) for item in value)
    raise ConfigurationError(
        f"config {key!r} is {type(value).__name__}; a connector's config is flat: text, numbers, booleans, or lists"
    )


def is_masked(value: str) -> bool:
    """Whether a value is what somebody shows in place of a secret."""
    return bool(_MASKED.fullmatch(value))


@dataclass(frozen=True)
class Difference:
    """How one key changes.

    :param former: the value before; ``None`` if there was none.
    :param wished: the value to come; ``None`` if it goes.
    """

    former: str | None
    wished: str | None


def differences(wished: Config, present: Config) -> dict[str, Difference]:
    """Return what has to change, by key.

    A masked value equals any other: nobody can tell, so nothing is sent. References such as ``${file:path:key}``,
    ``${secrets:…}`` and ``${env:…}`` are compared as they are written, for Connect keeps them so.
    """
    found = {key: Difference(present.get(key), wished.get(key)) for key in sorted(wished.keys() | present.keys())}
    return {key: one for key, one in found.items() if key not in OURS and not _same(one.wished, one.former)}


def _same(wished: str | None, present: str | None) -> bool:
    if wished is None or present is None:
        return False
    return wished == present or is_masked(wished) or is_masked(present)


def complete(wished: Config, present: Config) -> dict[str, str]:
    """Return the config to send: a wished value that is a mask becomes the present one.

    :raises ConfigurationError: if that is a mask too, or there is none.
    """
    sent = dict(wished)
    for key, value in wished.items():
        if is_masked(value):
            sent[key] = present.get(key, value)
        if is_masked(sent[key]):
            raise ConfigurationError(
                f"config {key!r} is a mask, {value!r}, which would overwrite the secret; write the secret itself, from "
                "an Airflow connection, or a reference such as ${file:/path:key}"
            )
    return sent


def _is_secret(key: str, declared: Collection[str]) -> bool:
    return key in declared or bool(_SECRET_KEY.search(key))


def secret_values(config: Config, declared: Collection[str] = ()) -> frozenset[str]:
    """Return the texts that must not be shown: values of secret keys, passwords inside of addresses.

    :param declared: further keys that are secret.
    """
    found: set[str] = set()
    for key, value in config.items():
        if _is_secret(key, declared):
            found.add(_REFERENCE.sub("", value))
            if "jaas" in key.lower():
                found.update(re.findall(r'password\s*=\s*"([^"]+)"', value))
        found.update(match["address"] or match["value"] for match in _IN_ADDRESS.finditer(_REFERENCE.sub("", value)))
    return frozenset(value for value in found if len(value) >= _SHORTEST and not is_masked(value))


def masked(config: Config, declared: Collection[str] = (), known: Collection[str] = ()) -> dict[str, str]:
    """Return a config that may be shown: secrets are masked wherever they stand, references to them are not.

    :param declared: further keys that are secret.
    :param known: further texts that are secret.
    """
    secrets = secret_values(config, declared) | frozenset(known)
    return {
        key: MASK
        if _is_secret(key, declared) and _REFERENCE.sub("", value).strip()
        else scrubbed(_IN_ADDRESS.sub(_cover, value), secrets)
        for key, value in config.items()
    }


def _cover(match: re.Match[str]) -> str:
    if match["address"]:
        return match[0] if _REFERENCE.search(match["address"]) else f"{match['user']}:{MASK}"
    return match[0] if match["value"].startswith("${") else f"{match['name']}={MASK}"


def scrubbed(text: str, secrets: Iterable[str]) -> str:
    """Return a text, such as a Java stack trace, with all secrets masked."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text
