"""The processes of one run that torchrun or Slurm has started, usually on several nodes.

The first process leads: it runs the pipeline. The others follow: they call what the leader has all
processes call, such as a training, until it tells them the end. They compute with each other in
torch.distributed. The end of a process and its reason go through a connection with the leader, of
which the operating system notices soon that the other side is gone.
"""

from __future__ import annotations

import json
import os
import pickle
import platform
import secrets
import socket
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, TypeVar

from mld.runtime.fabric import import_fabric
from mld_core.errors import (
    ExitCode,
    MLDError,
    NodeError,
    PluginError,
    SpecError,
    describe_exception,
    is_out_of_memory,
)

if TYPE_CHECKING:
    from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment

    from mld.runtime.compute import Compute

Result = TypeVar("Result")

STEP_SECONDS = 600.0
"""How long a process waits for the others to start, and for their part of a step."""
REASON_SECONDS = 10.0
"""How long the leader waits for the reason why it has lost another process."""
LONGEST_MESSAGE = 1 << 20
_KEEP_ALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPALIVE": 60, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 6}
"""A machine is lost after two minutes: 60 s without a message, and 6 probes without an answer.

The first option is called TCP_KEEPALIVE on macOS.
"""
_SET_BY_LAUNCHERS = ("TORCHELASTIC_RUN_ID", "SLURM_NTASKS")
"""Without one of these there is no launcher, and Lightning Fabric is slow to import."""
_ADVICE = "; re-run the same command to resume"


def process_rank() -> int:
    """The number of this process among those that a launcher has started; 0 if it is alone."""
    environment = _launcher()
    return environment.global_rank() if environment else 0


def check_processes(compute: Compute, followers: Followers | None) -> None:
    """SpecError unless there is a process for each device of each node.

    Without a launcher, the devices of one node are given their processes by each training.
    """
    per_node = compute.devices // compute.nodes
    if followers is None and compute.nodes > 1:
        raise SpecError(
            f"compute.nodes: {compute.nodes} x {per_node} devices need as many processes, but this "
            "is the only one: start mld on every node with torchrun or srun"
        )
    if followers is not None and followers.processes != compute.devices:
        raise SpecError(
            f"compute.nodes x compute.devices is {compute.nodes} x {per_node} = {compute.devices}, "
            f"but the launcher has started {followers.processes} processes: make them equal"
        )


def run_on_all(lead: Callable[[Followers | None], None]) -> None:
    """Call `lead` in the first process, while the others follow; it is given None if it is alone.

    An error of `lead` ends all processes. In the others it is a NodeError with the same exit code,
    or KeyboardInterrupt. NodeError if a process is lost.
    """
    environment = _launcher()
    if environment is None:
        lead(None)
        return
    with _process_group(environment):
        if environment.global_rank():
            _follow(_connect_to_leader(environment))
            return
        followers = Followers(_accept_followers(environment.world_size()))
        with followers.announcing_end():
            lead(followers)


class Followers:
    """The other processes of the run, as the leader sees them.

    Args:
        peers: a connection with each.
    """

    def __init__(self, peers: Sequence[_Peer]) -> None:
        self._peers = peers
        self.processes = 1 + len(peers)

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        """A process to which a context is sent has no followers."""
        return _nobody, ()

    def call(self, function: Callable[..., Result], *args: Any) -> Result:
        """Call a function in all processes, and return its result in this one.

        Its arguments are sent to the others. NodeError if another process has failed or is lost.
        """
        try:
            work = pickle.dumps((function, args))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise PluginError(f"a training cannot be sent to other nodes: {error}") from error
        self._send({"call": True})
        try:
            _broadcast(work)
            return function(*args)
        except RuntimeError as error:
            if not _is_lost_connection(error):
                raise
            raise self._reason(error) from error

    @contextmanager
    def announcing_end(self) -> Iterator[None]:
        """Let the others end as the block does."""
        ending = _ending(None)
        try:
            yield
        except BaseException as error:
            ending = _ending(error)
            raise
        finally:
            with suppress(NodeError):
                self._send(ending)

    def _send(self, message: dict[str, Any]) -> None:
        for peer in self._peers:
            peer.send(message)

    def _reason(self, error: Exception) -> NodeError:
        """Why another process was lost, as that has said before."""
        ready = wait([peer.connection for peer in self._peers], REASON_SECONDS)
        for peer in self._peers:
            if peer.connection in ready:
                return peer.failure(peer.receive())
        return NodeError(f"a process of the run does not answer ({error}){_ADVICE}")


@dataclass(frozen=True)
class _Peer:
    """The connection with another process.

    Args:
        name: of that process, for messages.
    """

    connection: Connection
    name: str

    def send(self, message: dict[str, Any]) -> None:
        """Send a message. NodeError if the connection is lost."""
        try:
            self.connection.send_bytes(json.dumps(message).encode())
        except OSError as error:
            raise self.failure(self.receive()) from error

    def receive(self) -> dict[str, Any]:
        """The next message; an empty one if the connection is lost."""
        try:
            return dict(json.loads(self.connection.recv_bytes(LONGEST_MESSAGE)))
        except (EOFError, OSError, TypeError, ValueError):
            return {}

    def failure(self, ending: Mapping[str, Any]) -> NodeError:
        """The error that this process has ended, with its last message if it has sent one."""
        if not ending:
            reason = "has ended without a message, or cannot be reached"
            return NodeError(f"{self.name} {reason}{_ADVICE}")
        return NodeError(f"{self.name} has failed: {ending['message']}", ending["exit_code"])


def _ending(error: BaseException | None) -> dict[str, Any]:
    """The message of a process that ends, with the exit code of the command line."""
    match error:
        case None:
            code, message = ExitCode.DONE, ""
        case MLDError():
            code, message = error.exit_code, str(error)
        case KeyboardInterrupt():
            code, message = ExitCode.INTERRUPTED, "interrupted"
        case _:
            code = ExitCode.DATA if is_out_of_memory(error) else ExitCode.BUG
            message = describe_exception(error)
    return {"exit_code": code, "message": message}


def _nobody() -> None:
    return None


def _launcher() -> ClusterEnvironment | None:
    """What has started this process as one of several; None if nothing has.

    SpecError if it does not say how many there are on a node.
    """
    if not any(name in os.environ for name in _SET_BY_LAUNCHERS):
        return None
    import_fabric()
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    kinds: tuple[type[ClusterEnvironment], ...] = (TorchElasticEnvironment, SLURMEnvironment)
    with warnings.catch_warnings():
        # That srun is installed and not used is no reason for a warning.
        warnings.simplefilter("ignore")
        for kind in kinds:
            if not kind.detect():
                continue
            try:
                environment = kind()
            except RuntimeError as error:
                raise SpecError(f"compute.nodes: {error}") from error
            return environment if environment.world_size() > 1 else None
    return None


@contextmanager
def _process_group(environment: ClusterEnvironment) -> Iterator[None]:
    """Connect all processes in torch.distributed until the block ends."""
    import torch
    from torch import distributed

    size = environment.world_size()
    try:
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
            init_method=f"tcp://{environment.main_address}:{environment.main_port}",
            rank=environment.global_rank(),
            world_size=size,
            timeout=timedelta(seconds=STEP_SECONDS),
        )
    except (RuntimeError, ValueError) as error:
        raise NodeError(
            f"the {size} processes of the run cannot connect with each other: {error}"
        ) from error
    try:
        yield
    finally:
        # Threads of a process group that outlive the interpreter abort the process.
        distributed.destroy_process_group()


def _accept_followers(size: int) -> list[_Peer]:
    """In the leader: a connection with each of the other processes."""
    token = secrets.token_hex()
    peers: list[_Peer] = []
    with socket.create_server(("", 0)) as listener:
        listener.settimeout(STEP_SECONDS)
        _broadcast(json.dumps([listener.getsockname()[1], token]).encode())
        try:
            while len(peers) < size - 1:
                connection = _watched(listener.accept()[0])
                is_ready = connection.poll(REASON_SECONDS)
                hello = _Peer(connection, "").receive() if is_ready else {}
                if hello.get("token") == token:  # any other program may have connected
                    peers.append(_Peer(connection, f"process {hello['rank']} on {hello['host']}"))
        except OSError as error:
            raise NodeError(f"the other processes of the run do not connect: {error}") from error
    return peers


def _connect_to_leader(environment: ClusterEnvironment) -> _Peer:
    """In another process: the connection with the leader."""
    port, token = json.loads(_broadcast(None))
    address = environment.main_address
    try:
        opened = socket.create_connection((address, port), STEP_SECONDS)
    except OSError as error:
        raise NodeError(f"no connection to {address}, port {port}: {error}") from error
    leader = _Peer(_watched(opened), f"the first process, on {address},")
    leader.send({"token": token, "rank": environment.global_rank(), "host": platform.node()})
    return leader


def _watched(opened: socket.socket) -> Connection:
    """A connection without a limit on waiting, which ends if the other machine does not answer."""
    opened.settimeout(None)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEP_ALIVE.items():
        if hasattr(socket, option):
            opened.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    return Connection(opened.detach())


def _follow(leader: _Peer) -> None:
    """Call what the leader has all processes call, until it ends; then end as it does."""
    try:
        while "call" in (message := leader.receive()):
            function, args = pickle.loads(_broadcast(None))
            try:
                function(*args)
            except RuntimeError as error:
                if not _is_lost_connection(error):
                    raise
                # The leader will say which process was lost, unless that is itself.
    except BaseException as error:
        with suppress(NodeError):
            leader.send(_ending(error))
        raise
    if message == _ending(KeyboardInterrupt()):
        raise KeyboardInterrupt
    if message != _ending(None):
        raise leader.failure(message)


def _broadcast(content: bytes | None) -> bytes:
    """What the leader gives to this function, in every process."""
    import torch
    from torch import distributed

    contents = [content]
    distributed.broadcast_object_list(contents, device=torch.device("cpu"))
    received = contents[0]
    assert received is not None
    return received


def _is_lost_connection(error: RuntimeError) -> bool:
    """Whether an error says that another process has gone or does not answer."""
    from torch.distributed import DistError

    # What gloo raises is no DistError, and begins with a place in its code.
    return isinstance(error, DistError) or "gloo/transport" in str(error)
