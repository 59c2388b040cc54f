"""`python -m benchmarks.soak`: `node/soak.py` in the built package's environment."""

from benchmarks import become

if __name__ == "__main__":
    become("soak.py")
