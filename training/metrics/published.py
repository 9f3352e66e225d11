"""Whether bars were measured on the package that is about to be published.

    python -m training.metrics.published BARS.json PACKAGE

Exit code 0 where the last package of BARS.json computes the same as PACKAGE, else 2 and one line. The
manifest's `checkpointSha256` is no use for that: it changes with the metrics that the evaluation adds
to the checkpoint's card, and does not know the adapter.
"""

import json
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

COMPUTES = ("config", "files", "tensors", "adapter", "template", "sampling")


class OtherPackage(ValueError):
    """The bars are of another package, or do not say of which."""


def weights_digest(manifest: dict[str, Any]) -> str:
    """SHA-256 of what answers depend on: the hashes of all files, sizes, gates, template, sampling."""
    parts = {name: manifest[name] for name in COMPUTES}
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def check(bars: Path, package: Path) -> None:
    """Raises OtherPackage where the last package of `bars` is not this one."""
    measured = json.loads(bars.read_text(encoding="utf-8"))["packages"][-1]
    manifest = json.loads((package / "manifest.json").read_text(encoding="utf-8"))
    said, found = measured.get("weights"), weights_digest(manifest)
    again = "measure that package again with training.bars, then make report and card"
    if said is None:
        raise OtherPackage(f"{bars} does not say which weights it is of: {again}")
    if said != found:
        name = measured.get("label", measured["package"])
        raise OtherPackage(
            f"{bars} is of other weights: its last package, {name}, has {said[:12]}, "
            f"{package} has {found[:12]}: {again}"
        )


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit("usage: python -m training.metrics.published BARS.json PACKAGE")
    try:
        check(Path(sys.argv[1]), Path(sys.argv[2]))
    except (OtherPackage, OSError, ValueError, KeyError, IndexError) as error:
        print(f"published: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
