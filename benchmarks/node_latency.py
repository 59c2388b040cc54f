"""`python -m benchmarks.node_latency`: `node/latency.py` in the built package's environment."""

from benchmarks import become

if __name__ == "__main__":
    become("latency.py")
