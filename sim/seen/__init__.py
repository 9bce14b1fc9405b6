"""What routers see of replicas and believe of them, as plain typed Python that is compiled too."""

from hardware.compiled import choose

choose(__path__[0])
