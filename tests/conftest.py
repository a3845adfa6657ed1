"""What every end-to-end test shares: one provider simulator and one proxy per session."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import settings

from tests.corporate import Corporate
from tests.laboratory import Lab
from tests.mitmdump import Proxy
from tests.provider.simulator import Simulator
from tests.strict import Servers

# How fast a case is must decide nothing, whatever else the machine does.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


type StartProxy = Callable[..., Proxy]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="Run fault and load tests at their full length.")


@pytest.fixture(scope="session")
def soak(pytestconfig: pytest.Config) -> bool:
    """Whether fault and load tests run at their full length; the short form is the rule."""
    return bool(pytestconfig.getoption("soak"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What the marker `in_full` says in pyproject.toml."""
    for mark in metafunc.definition.iter_markers("in_full"):
        name, short, full = mark.args
        metafunc.parametrize(name, full if metafunc.config.getoption("soak") else short)


@pytest.fixture(scope="session")
def _simulator() -> Iterator[Simulator]:
    simulator = Simulator().start()
    yield simulator
    simulator.close()


@pytest.fixture
def provider(_simulator: Simulator) -> Simulator:
    """The simulator, with nothing scripted and nothing said."""
    _simulator.reset()
    return _simulator


@pytest.fixture(scope="session")
def proxy(_simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """The proxy most tests share: tests keep apart by their own conversations and keys."""
    running = Proxy(_simulator, tmp_path_factory.mktemp("home"))
    yield running
    running.stop()


@pytest.fixture
def start_proxy(_simulator: Simulator, tmp_path: Path) -> Iterator[StartProxy]:
    """Starts a proxy of the test's own: `start_proxy(*arguments, home=...)`; stopped at the end."""
    with contextlib.ExitStack() as running:

        def start(*arguments: str, home: Path | None = None, under: Sequence[str] = ()) -> Proxy:
            proxy = Proxy(_simulator, home or tmp_path / "home", *arguments, under=under)
            running.callback(proxy.stop)
            return proxy

        yield start


@pytest.fixture(scope="session")
def _servers() -> Iterator[Servers]:
    servers = Servers()
    yield servers
    servers.close()


@pytest.fixture(scope="session")
def _lab(_servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(_servers, tmp_path_factory.mktemp("laboratory"))
    yield lab
    lab.stop()


@pytest.fixture
def lab(_lab: Lab) -> Lab:
    """The proxy that the scenarios share, which has been taught nothing."""
    _lab.begin()
    return _lab


@pytest.fixture
def corporate(provider: Simulator) -> Iterator[Corporate]:
    """The proxy of the company whose network a person is in."""
    proxy = Corporate(provider.port)
    yield proxy
    proxy.close()
