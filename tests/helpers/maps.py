"""Which file is mapped at an address."""


def mapped_inode(address: int) -> int:
    """Inode of the file that is mapped at an address of this process."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            if start <= address < end:
                return int(line.split()[4])
    raise AssertionError("nothing is mapped there")
