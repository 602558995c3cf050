"""Make .venv-oldest, with the oldest versions that the project allows: `make test-oldest`.

It lies over the environment that this runs in, from which it has torch and torchvision, gigabytes
each, as new as they are there. The project itself and all that it names is installed anew.
"""

from __future__ import annotations

import subprocess
import sysconfig
import venv
from pathlib import Path

from packaging.requirements import Requirement

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

PROJECT = Path(__file__).parent.parent
FOLDER = PROJECT / ".venv-oldest"
FROM_BELOW = {"torch", "torchvision"}
NOT_FOR_USERS = {"dev"}  # extras: what tests run with may be as new as it likes


def floors() -> list[str]:
    """Constraints, one a package that has a floor: the floor itself."""
    lines = (PROJECT / "requirements.txt").read_text().splitlines()
    needed = [line for line in lines if line and not line.startswith("#")]
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    for name, extra in project["optional-dependencies"].items():
        needed += [] if name in NOT_FOR_USERS else extra
    return [
        f"{one.name}=={bound.version}"
        for one in map(Requirement, needed)
        for bound in one.specifier
        if bound.operator == ">=" and one.name not in FROM_BELOW
    ]


def main() -> None:
    below = sysconfig.get_path("purelib")
    venv.create(FOLDER, clear=True, with_pip=True)
    above = sysconfig.get_path("purelib", "venv", {"base": FOLDER, "installed_base": FOLDER})
    Path(above, "below.pth").write_text(f"{below}\n")  # found after all that lies here
    constraints = FOLDER / "constraints.txt"
    constraints.write_text("\n".join(floors()) + "\n")
    print(constraints.read_text(), end="")
    pip = [FOLDER / "bin" / "python", "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "--constraint", constraints, "--editable", f"{PROJECT}[dev]"], check=True)


if __name__ == "__main__":
    main()
