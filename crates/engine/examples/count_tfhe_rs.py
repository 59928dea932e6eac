# Counts how often tfhe-rs bootstraps between `begin` and `end` of the example beside this file. Read by gdb.
import re
import subprocess

import gdb

WIDTHS = 6


def symbols(pattern):
    program = gdb.current_progspace().filename
    listing = subprocess.run(["nm", program], capture_output=True, text=True, check=True).stdout
    return [line.split()[-1] for line in listing.splitlines() if re.search(pattern, line)]


class Mark(gdb.Breakpoint):
    """Reads the counters where a row begins and where it ends."""

    before = 0

    def __init__(self, symbol, ends):
        super().__init__(symbol)
        self.ends = ends

    def stop(self):
        now = sum(counter.hit_count for counter in counters)
        if self.ends:
            row, width = (int(gdb.parse_and_eval(name)) for name in ("$rdi", "$rsi"))
            counts.setdefault(row, [0] * WIDTHS)[width] = now - Mark.before
        Mark.before = now
        return False


gdb.execute("set pagination off")
gdb.execute("set print thread-events off")
counts = {}
counters = []
for symbol in symbols("apply_standard_blind_rotate"):
    counter = gdb.Breakpoint(symbol)
    counter.ignore_count = 10**9
    counters.append(counter)
for name, ends in (("5begin", False), ("3end", True)):
    for symbol in symbols("count_tfhe_rs" + name + "17h"):
        Mark(symbol, ends)
gdb.execute("run")
for row in sorted(counts):
    print(counts[row])
