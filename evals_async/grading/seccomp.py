"""The system calls that a sandboxed grader may not make, as a filter program of the kernel (seccomp, classic BPF).

It refuses new processes, new namespaces, and access to other processes. Threads are allowed, because numerical
libraries use them.
"""

import errno
import platform
import struct
from collections.abc import Mapping

import attrs

from evals_async.grading.similarity import Unavailable


LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # instructions, linux/bpf_common.h
NUMBER, ARCH, FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data, little endian
ALLOW, KILL, ERROR = 0x7FFF0000, 0x80000000, 0x00050000
CLONE_THREAD = 0x00010000
X32 = 0x40000000  # the bit of the x32 system calls of x86_64
CLONE3 = 435


@attrs.frozen
class Machine:
    """The numbers of system calls of one architecture."""

    arch: int
    clone: int
    refused: tuple[int, ...]


MACHINES: Mapping[str, Machine] = {
    # fork vfork ptrace mount umount2 pivot_root chroot add_key request_key keyctl unshare setns perf_event_open
    # process_vm_readv process_vm_writev bpf userfaultfd
    "x86_64": Machine(
        0xC000003E,
        56,
        (57, 58, 101, 165, 166, 155, 161, 248, 249, 250, 272, 308, 298, 310, 311, 321, 323),
    ),
    # ptrace mount umount2 pivot_root chroot add_key request_key keyctl unshare setns perf_event_open process_vm_readv
    # process_vm_writev bpf userfaultfd
    "aarch64": Machine(0xC00000B7, 220, (117, 40, 39, 41, 51, 217, 218, 219, 97, 268, 241, 270, 271, 280, 282)),
}
EVERYWHERE = (425, 428, 429, 430, 431, 432, 442)  # io_uring_setup, and the newer mount calls


def instruction(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    """Encode one instruction. `then` and `otherwise` are the numbers of instructions to skip."""
    return struct.pack("<HBBI", code, then, otherwise, value)


def filter_program(machine: str | None = None) -> bytes:
    """Return the filter for this architecture. Raises `Unavailable` for an unsupported architecture."""
    name = platform.machine() if machine is None else machine
    if name not in MACHINES:
        known = " and ".join(MACHINES)
        raise Unavailable(
            f"the sandbox of python graders supports {known}, not {name}", code="python_grader_server_error"
        )
    known_machine = MACHINES[name]
    refuse = instruction(RETURN, ERROR | errno.EPERM)
    program = [
        instruction(LOAD, ARCH),
        instruction(EQUAL, known_machine.arch, then=1),
        instruction(RETURN, KILL),
        instruction(LOAD, NUMBER),
        instruction(AT_LEAST, X32, otherwise=1),
        refuse,
        # The C library falls back to clone, whose flags the filter can check.
        instruction(EQUAL, CLONE3, otherwise=1),
        instruction(RETURN, ERROR | errno.ENOSYS),
    ]
    for number in (*known_machine.refused, *EVERYWHERE):
        program += [instruction(EQUAL, number, otherwise=1), refuse]
    program += [
        instruction(EQUAL, known_machine.clone, then=1),
        instruction(RETURN, ALLOW),
        instruction(LOAD, FIRST_ARGUMENT),
        instruction(ANY_BIT, CLONE_THREAD, then=1),
        refuse,
        instruction(RETURN, ALLOW),
    ]
    return b"".join(program)
