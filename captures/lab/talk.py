"""A client that says what a script tells it to: for what no well-behaved client would send.

The script, on standard input or in a file, has one step a line:

    S: 250             wait for a whole reply (the code is a remark); what came is printed
    C: NOOP            send a line
    B: b"a\\n.\\r\\n"  send these octets
    WAIT 0.5           seconds
    RESET              close with RST
"""

from __future__ import annotations

import ast
import socket
import struct
import sys
import time


def main() -> None:
    server, port = sys.argv[1], int(sys.argv[2])
    with open(sys.argv[3]) as script:
        steps = [line.rstrip("\n") for line in script if line.strip()]
    with socket.create_connection((server, port), timeout=20) as connection:
        replies = connection.makefile("rb")
        for step in steps:
            kind, _, rest = step.partition(" ")
            if kind == "S:":
                while line := replies.readline():
                    print("S:", line.decode("ascii", "backslashreplace").rstrip("\r\n"))
                    if line[3:4] != b"-":
                        break
            elif kind == "C:":
                print(step)
                connection.sendall(rest.encode() + b"\r\n")
            elif kind == "B:":
                data = ast.literal_eval(rest)
                print(f"B: {data!r}")
                connection.sendall(data)
            elif kind == "WAIT":
                time.sleep(float(rest))
            elif kind == "RESET":
                print("RESET")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                replies.close()
                return


if __name__ == "__main__":
    main()
