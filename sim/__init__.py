"""One scenario on a SimPy clock: arrivals, router, replicas."""
