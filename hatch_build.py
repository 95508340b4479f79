"""Puts an SBOM into each wheel (PEP 770): what the package is, and which others it asks for.

The wheel holds no code of others, and what it depends on are ranges, so each package is named
without a version, with what pyproject.toml asks of it. CycloneDX 1.6. The same tree gives the same
bytes.
"""

import json
import tempfile
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

NAME = "dynamiq-async.cdx.json"


class SBOMHook(BuildHookInterface[Any]):
    """What hatchling calls before and after it builds a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        self._folder = tempfile.TemporaryDirectory()
        path = Path(self._folder.name, NAME)
        path.write_text(json.dumps(sbom(self.metadata), indent=2) + "\n")
        build_data["sbom_files"].append(str(path))

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        self._folder.cleanup()


def sbom(metadata: Any) -> dict[str, Any]:
    """The SBOM of a project, from hatchling's view of it."""
    core = metadata.core
    this = f"pkg:pypi/{canonicalize_name(core.name)}@{metadata.version}"
    asked = {"": core.dependencies, **core.optional_dependencies}
    components: dict[str, dict[str, Any]] = {}
    for extra in sorted(asked):
        for text in sorted(asked[extra]):
            note(components, Requirement(text), extra)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_URL, this)}",
        "version": 1,
        "metadata": {
            "lifecycles": [{"phase": "build"}],
            "component": {
                "type": "library",
                "bom-ref": this,
                "name": core.name,
                "version": metadata.version,
                "description": core.description,
                "licenses": [{"expression": core.license_expression}],
                "purl": this,
            },
        },
        "components": list(components.values()),
        "dependencies": [{"ref": this, "dependsOn": list(components)}],
    }


def note(components: dict[str, dict[str, Any]], asked: Requirement, extra: str) -> None:
    """Add a package that is asked for: by an extra, or always, where that is ""."""
    url = f"pkg:pypi/{canonicalize_name(asked.name)}"
    known = {
        "type": "library",
        "bom-ref": url,
        "name": asked.name,
        "purl": url,
        "scope": "optional" if extra else "required",
        "properties": [],
    }
    name = f"dynamiq-async:requirement{f':{extra}' if extra else ''}"
    components.setdefault(url, known)["properties"].append({"name": name, "value": str(asked)})
