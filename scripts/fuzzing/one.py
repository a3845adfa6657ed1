"""One target under atheris, in a process of its own: `python -m scripts.fuzzing.one TARGET SEED -runs=N ...`.

libFuzzer keeps the inputs that reach something new, says so on its standard error, and stops the process at
the first failure; half of its inputs are changed by our own mutations.
"""

import logging
import resource
import sys
from random import Random

import atheris

with atheris.instrument_imports(include=["reasoning_fix"]):
    from scripts.fuzzing.seeds import seeds
    from scripts.fuzzing.targets import TARGETS

from scripts.fuzzing.mutations import mutate

# An input that needs more than this is a failure of its own.
_ADDRESS_SPACE = 4 << 30


def main() -> None:
    name = sys.argv[1]
    target, others = TARGETS[name], seeds(name)
    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))

    def change(data: bytes, size: int, seed: int) -> bytes:
        random = Random(seed)
        if random.randrange(2):
            return bytes(atheris.Mutate(data, size))
        return mutate(data, random.choice(others), random)[:size]

    atheris.Setup([sys.argv[0], *sys.argv[2:]], target, custom_mutator=change)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
