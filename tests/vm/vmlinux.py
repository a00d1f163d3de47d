"""Takes the ELF kernel out of a bzImage: vmlinux.py BZIMAGE OUT.

The boot protocol's header (Linux Documentation/arch/x86/boot.rst) says where the compressed payload is; its last four
bytes are the length of what it unpacks to.
"""

import struct
import subprocess
import sys

UNPACKERS = {b"\xfd7zXZ\0": ["xz", "-dc"], b"\x28\xb5\x2f\xfd": ["zstd", "-dc"]}


def main(source: str, target: str) -> None:
    with open(source, "rb") as file:
        image = file.read()
    if image[0x202:0x206] != b"HdrS":
        sys.exit(f"{source} is no bzImage")
    setup_sectors = image[0x1F1] or 4
    start, length = struct.unpack_from("<II", image, 0x248)
    start += (setup_sectors + 1) * 512
    payload = image[start : start + length]
    for magic, command in UNPACKERS.items():
        if payload.startswith(magic):
            break
    else:
        sys.exit(f"{source}: compressed by something unknown ({payload[:6].hex()})")
    # The length at the end is no part of the stream; xz says so with an exit status that is of no interest.
    kernel = subprocess.run(command, input=payload[:-4], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    (expected,) = struct.unpack("<I", payload[-4:])
    if not kernel.startswith(b"\x7fELF") or len(kernel) != expected:
        sys.exit(f"{source}: {len(kernel)} bytes unpacked, {expected} expected")
    with open(target, "wb") as file:
        file.write(kernel)


main(*sys.argv[1:])
