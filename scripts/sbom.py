"""Writes the bill of materials of a build: `scripts/sbom.py FOLDER`, for the wheel and the sdist in that folder.

It is CycloneDX 1.6, as JSON: the two files with their hashes, and the packages that newswire's extras bring, in the
versions that this environment has, with their licences and what needs what. newswire itself needs none. The same files
and versions give the same bytes; SOURCE_DATE_EPOCH is its time.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, Property, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from licences import NOT_FOR_USERS, licences_of, needed
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def component(name: str, version: str, licences: list[str]) -> Component:
    """A package."""
    make = LicenseFactory()
    url = PackageURL("pypi", None, name, version)
    made = Component(name=name, version=version, type=ComponentType.LIBRARY, purl=url, bom_ref=str(url))
    for licence in licences:
        made.licenses.add(make.make_from_string(licence))
    return made


def bill(folder: Path) -> Bom:
    """The bill of materials of the files in a folder."""
    own = importlib.metadata.distribution("newswire")
    root = component("newswire", own.version, licences_of(own))
    digests = []
    for path in sorted([*folder.glob("*.whl"), *folder.glob("*.tar.gz")]):
        digests.append(hashlib.sha256(path.read_bytes()).hexdigest())
        root.external_references.add(
            ExternalReference(
                type=ExternalReferenceType.DISTRIBUTION,
                url=XsUri(path.name),
                hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digests[-1])],
            )
        )
    made = Bom()
    made.serial_number = uuid.uuid5(uuid.NAMESPACE_URL, " ".join(digests))
    made.metadata.timestamp = datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", "0")), UTC)
    made.metadata.component = root

    extras = [name for name in own.metadata.get_all("Provides-Extra") or () if name not in NOT_FOR_USERS]
    found = {canonicalize_name(one.name): one for one in needed(extras)}
    parts = {name: component(name, one.version, licences_of(one)) for name, one in sorted(found.items())}
    for extra in extras:
        for name in {canonicalize_name(one.name) for one in needed([extra])}:
            parts[name].scope = ComponentScope.OPTIONAL
            parts[name].properties.add(Property(name="newswire:extra", value=extra))
    for part in parts.values():
        made.components.add(part)
    direct = {
        canonicalize_name(one.name)
        for one in map(Requirement, own.requires or ())
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in extras)
    }
    made.register_dependency(root, [parts[each] for each in direct & parts.keys()])
    for name, one in found.items():
        wanted = {canonicalize_name(Requirement(text).name) for text in one.requires or ()}
        made.register_dependency(parts[name], [parts[each] for each in wanted & parts.keys() - {name}])
    return made


def main() -> int:
    """Write it beside the files. Returns the exit code."""
    folder = Path(sys.argv[1])
    made = bill(folder)
    text = JsonV1Dot6(made).output_as_string(indent=2)
    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        print(f"the bill of materials is not valid: {error}", file=sys.stderr)
        return 1
    path = folder / f"newswire-{importlib.metadata.version('newswire')}.cdx.json"
    path.write_text(text + "\n")
    print(f"{path}: {len(made.components)} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
