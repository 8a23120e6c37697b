"""What must be true of a cluster before it gets work, and what to say where it is not. `spark` has the session."""

import re
import socket
import sys
import time
from collections.abc import Iterator

from pipelines.code import PACKAGES, code_version
from pipelines.errors import ConfigError

_LOCAL = re.compile(r"local(\[(\*|[1-9]\d*)( *, *\d+)?\]|-cluster\[.*\])?")
_OURS = "|".join(PACKAGES)
_PAUSE_S = 0.5
_OTHER_CODE = "every worker must run the Thaw of the driver"
_GIVE_IT = "give spark-submit `--py-files dist/thaw.zip`, or install the same Thaw on every worker (docs/cluster.md)"


def is_local(master: str) -> bool:
    """Whether Spark's executors are within the driver."""
    return master.startswith("local")


def runs_locally() -> bool:
    """Whether this process has a session whose executors are within it. Loads no Spark to find out."""
    context = getattr(sys.modules.get("pyspark"), "SparkContext", None)
    running = getattr(context, "_active_spark_context", None)
    return running is not None and is_local(str(running.master))


def is_sparks(error: BaseException) -> bool:
    """Whether this is an error of Spark's own, in which what failed in Java or in a worker is text."""
    return type(error).__module__.partition(".")[0] in ("pyspark", "py4j")


def check_master(master: str, wait_s: float) -> None:
    """Raises ConfigError where this is no address of a master, or none of its hosts answers within `wait_s` seconds.

    Spark itself would try a standalone master for a minute and end with a Java stack trace. YARN and Kubernetes are
    asked by their own clients.
    """
    if _LOCAL.fullmatch(master) or master == "yarn" or master.startswith("k8s://"):
        return
    hosts = [address.rpartition(":") for address in master.removeprefix("spark://").split(",")]
    if not master.startswith("spark://") or not all(host and port.isdigit() for host, _, port in hosts):
        raise ConfigError(
            f"`spark.master` must be local[N], spark://HOST:PORT, yarn or k8s://HOST:PORT, got {master!r}; correct "
            "spark.master, or spark-submit's --master"
        )
    until = time.monotonic() + wait_s
    while True:
        for host, _, port in hosts:
            try:
                socket.create_connection((host.strip("[]"), int(port)), timeout=max(wait_s, _PAUSE_S)).close()
                return
            except (OSError, OverflowError) as error:
                said = error
        if time.monotonic() > until:
            raise ConfigError(
                f"the Spark master must answer within {wait_s:g} s, {master} did not ({said}); start it, or correct "
                "spark.master or spark-submit's --master (spark.connect_timeout_s: how long it is tried)"
            )
        time.sleep(_PAUSE_S)


def require_code(expected: str) -> None:
    """In a worker. Raises ConfigError where it imports another Thaw than the driver, whose `code_version` is given."""
    if code_version() != expected:
        raise ConfigError(f"{_OTHER_CODE}, {expected}; {socket.gethostname()} has {code_version()}")


def cluster_fault(error: BaseException) -> str:
    """What to say of an error in a worker that comes of how the cluster is set up; empty of any other.

    It comes back as text, in an error of Spark's own.
    """
    # Workers of one machine have the driver's code and packages: what they cannot import is a fault of ours.
    ways = (_pythons_fault,) if runs_locally() else (_pythons_fault, _codes_fault)
    for one in filter(is_sparks, _chain(error)):
        for way in ways:
            if said := way(str(one)):
                return said
    return ""


def _pythons_fault(text: str) -> str:
    if found := re.search(r"different version: ([\d.]+) than that in driver:? ([\d.]+)", text):
        return (
            f"every worker must run the driver's Python, {found[2]}, one runs {found[1]}; set PYSPARK_PYTHON to one "
            f"that all have, or pack the environment (docs/cluster.md)"
        )
    if found := re.search(r'Cannot run program "([^"]+)"', text):
        return (
            f"every worker must have the Python that PYSPARK_PYTHON names, one has no {found[1]}; set it to one that "
            "all have (docs/cluster.md)"
        )
    return ""


def _codes_fault(text: str) -> str:
    if found := re.search(rf"{_OTHER_CODE}, \w+; (\S+ has \w+)", text):
        return f"{_OTHER_CODE} ({code_version()}), {found[1]}; {_GIVE_IT}"
    if found := re.search(r"ModuleNotFoundError: No module named '([\w.]+)", text):
        if found[1] in PACKAGES:
            return f"every worker must be able to import Thaw, one found no `{found[1]}`; {_GIVE_IT}"
        if found[1].partition(".")[0] in PACKAGES:
            return f"{_OTHER_CODE} ({code_version()}), one has none of its `{found[1]}`; {_GIVE_IT}"
        return (
            f"every worker must have the packages of requirements.lock, one found no `{found[1]}`; install them there, "
            "or pack the environment and give it as --archives (docs/cluster.md)"
        )
    if re.search(rf"Can't get attribute .* on <module '({_OURS})|cannot import name .* from '({_OURS})", text):
        return f"{_OTHER_CODE} ({code_version()}), one has another; {_GIVE_IT}"
    return ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    chained: BaseException | None = error
    while chained is not None:
        yield chained
        chained = chained.__cause__ or chained.__context__
