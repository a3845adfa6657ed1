"""The package as people install it: a wheel and a source archive, each in an environment and home of its own.

The packages that it needs are those of this environment, so that nothing is downloaded.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from reasoning_fix import __version__
from tests.cli.test_execute import CALL, PYTHON_CLIENT, filled
from tests.console import Home
from tests.provider.simulator import Simulator

ROOT = Path(__file__).parents[2]


def run(*words: object, folder: Path, **more: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_"))}
    environment = kept | {"HOME": str(folder), "PIP_CONFIG_FILE": os.devnull} | more
    ended = subprocess.run(
        [str(word) for word in words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A wheel and a source archive of a copy of this checkout, which git does not know."""
    folder = tmp_path_factory.mktemp("build")
    checkout = folder / "checkout"
    checkout.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "reasoning_fix", checkout / "reasoning_fix", ignore=ignored)
    run(sys.executable, "-m", "hatchling", "build", "-d", folder / "dist", folder=checkout)
    (wheel,) = (folder / "dist").glob("*.whl")
    (source,) = (folder / "dist").glob("*.tar.gz")
    return {"wheel": wheel, "source archive": source}


class Installed(Home):
    """A home with an environment into which this was installed, and no checkout beside it."""

    def __init__(self, folder: Path, provider: Simulator, archive: Path) -> None:
        super().__init__(folder / "home", provider)
        self.bin = folder / "environment" / "bin"
        run(sys.executable, "-m", "venv", folder / "environment", folder=folder)
        asked = "import site; print(site.getsitepackages()[0])"
        site = Path(run(self.bin / "python", "-c", asked, folder=folder).strip())
        (site / "needed.pth").write_text(sysconfig.get_paths()["purelib"])
        install = (
            "install",
            "--quiet",
            "--no-index",
            "--no-deps",
            "--no-build-isolation",
            "--force-reinstall",
        )
        run(self.bin / "python", "-m", "pip", *install, archive, folder=folder)
        found = run(self.bin / "python", "-c", "import reasoning_fix as r; print(r.__file__)", folder=folder)
        assert Path(found.strip()).is_relative_to(site), "it is not the one that was installed"

    def command(self, *words: str) -> list[str]:
        return [str(self.bin / "reasoning-fix"), *words]


@pytest.mark.skipif(os.name != "posix", reason="exec becomes its program on POSIX only")
@pytest.mark.parametrize("kind", ["wheel", "source archive"])
def test_what_is_installed_repairs(
    kind: str, archives: dict[str, Path], provider: Simulator, tmp_path: Path
) -> None:
    home = Installed(tmp_path, provider, archives[kind])
    assert home.run("--version").stdout == f"reasoning-fix {__version__}\n"
    provider.say(reasoning="The user wants the weather: call the tool.", calls=[CALL])
    provider.say(reasoning="21 degrees.", text="21 °C and dry.")
    result = home.run("exec", "--", sys.executable, "-c", filled(PYTHON_CLIENT))
    assert result.stdout == "21 °C and dry.\n", result.stderr
    assert provider.requests[-1].verdicts == ["exact"]
    assert home.run("uninstall", "--data").returncode == 0
    left = [path for path in home.folder.rglob("*") if path.is_file() and "reasoning-fix" in path.parts]
    assert not left
