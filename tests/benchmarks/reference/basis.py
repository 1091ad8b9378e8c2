"""One equivariant basis by the library emlp, in an environment of its own: prints its seconds and its rank.

Run by bases.py, never imported: this project does not depend on emlp.
"""

import re
import sys
import time
import warnings

warnings.filterwarnings("ignore")

import emlp.groups as groups  # noqa: E402
from emlp.reps import Scalar, T, V  # noqa: E402


def evaluate(text, names):
    """The notation of this project is that of emlp, but for Vector and groups that need parentheses."""
    return eval(text, {"__builtins__": {}}, names)


def main(group_text, *rep_texts):
    named = {name: getattr(groups, name) for name in dir(groups) if name[0].isupper()}
    for name in ("O13", "SO13", "SO13p", "SO2eR3", "O2eR3", "Cube", "RubiksCube", "Lorentz"):
        named[name] = named[name]()
    start = time.perf_counter()
    if "*" in group_text:
        reps = [
            evaluate(re.sub(r"Vector", "V", text), named | {"V": V, "T": T, "Scalar": Scalar}) for text in rep_texts
        ]
    else:
        group = evaluate(group_text, named)
        reps = [evaluate(text, {"T": T, "Scalar": Scalar})(group) for text in rep_texts]
    basis = (reps[0] >> reps[1]).equivariant_basis()
    print(time.perf_counter() - start, basis.shape[1])


if __name__ == "__main__":
    main(*sys.argv[1:])
