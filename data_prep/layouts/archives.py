"""Lists the members of a tar, and refuses a damaged one instead of reading up to the damage.

The standard library treats an unreadable header, or the end of the file, as the end of the archive.
Here an archive must have its end mark (a block of zeros, and zeros to the last byte), so that no
member is lost silently.
"""

import posixpath
import tarfile
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

_BLOCK = 512
_ZEROS = bytes(_BLOCK)
_READ_AT_ONCE = 1 << 20
_LONGEST_HEADER = 1 << 20  # of names; a damaged size could ask for gigabytes
_LINKS = (tarfile.LNKTYPE, tarfile.SYMTYPE)
_PAX = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_OTHER_KINDS = {
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a FIFO",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}


class Member(NamedTuple):
    """A file in an archive.

    Attributes:
      name: its path in the archive; bytes other than UTF-8 are surrogates.
      offset: where its bytes begin, counted from the first byte of the file that holds the archive.
      size: number of bytes.
      odd: "" or why it cannot be read, such as "a device".
    """

    name: str
    offset: int
    size: int
    odd: str = ""


def members(file: BinaryIO, begin: int, length: int, what: str) -> list[Member]:
    """All members of an uncompressed tar but directories, in order, with links resolved.

    Args:
      file: holds the archive, perhaps as a part of another one.
      begin: where in it.
      length: the archive's bytes.
      what: its name in messages.

    Raises:
      ValueError: the archive is no tar or is incomplete; the message says where.
    """
    found: dict[str, Member] = {}
    replaced: list[Member] = []
    links: dict[str, str] = {}  # name -> what it leads to
    for name, header, offset in _headers(file, begin, begin + length, what):
        if header.isdir():
            continue
        if earlier := found.pop(name, None):  # the last one counts, as when unpacking
            links.pop(name, None)
            replaced.append(earlier._replace(odd="a later member has the same name"))
        if header.type in _LINKS:
            home = posixpath.dirname(name) if header.issym() else ""
            links[name] = posixpath.normpath(posixpath.join(home, header.linkname))
            found[name] = Member(name, -1, 0, "a link to what is not in the archive")
        elif header.type in _OTHER_KINDS:
            found[name] = Member(name, -1, 0, _OTHER_KINDS[header.type])
        else:
            found[name] = Member(name, offset, header.size)
    targets = {posixpath.normpath(name): name for name in found}
    for name in links:
        if target := _resolved(name, links, targets):
            found[name] = found[target]._replace(name=name)
    return [*found.values(), *replaced]


def _resolved(name, links, targets):
    """The final target of a link; None if it is broken or circular."""
    for _ in range(len(links)):
        name = targets.get(links[name])
        if name is None or name not in links:
            return name
    return None


def _headers(file, at, end, what) -> Iterator[tuple[str, tarfile.TarInfo, int]]:
    """Yields (name, header, offset of its bytes) of each member."""
    always: dict[str, str] = {}  # extended headers for all members, and for the next one
    extended: dict[str, str] = {}
    while block := _block(file, at, end, what):
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            data = at + _BLOCK
            if header.type in _PAX or header.type in (
                tarfile.GNUTYPE_LONGNAME,
                tarfile.GNUTYPE_LONGLINK,
            ):
                text = _text(file, data, header.size, end)
                if header.type == tarfile.XGLTYPE:
                    always.update(_pax(text))
                elif header.type in _PAX:
                    extended.update(_pax(text))
                else:
                    key = "path" if header.type == tarfile.GNUTYPE_LONGNAME else "linkpath"
                    extended[key] = _decoded(text.partition(b"\0")[0])
                at = data + _padded(header.size)
                continue
            known = {**always, **extended}
            extended = {}
            _apply(header, known)
            size = 0 if header.type in _LINKS or header.isdir() else header.size
            if not 0 <= size <= end - data:
                raise ValueError(f"{header.name} would have {size} bytes, {end - data} are left")
        except (tarfile.HeaderError, ValueError) as error:
            raise ValueError(
                f"{what} is no whole, uncompressed tar: byte {at} should begin a member ({error}). "
                "Get it again."
            ) from None
        yield header.name, header, data
        at = data + _padded(size)


def _block(file, at, end, what):
    """The header at `at`; None at the end mark.

    Raises:
      ValueError: there is no end mark, or something follows it.
    """
    file.seek(at)
    block = file.read(_BLOCK)
    if at + _BLOCK > end or len(block) < _BLOCK:
        raise ValueError(
            f"{what} is no whole, uncompressed tar: at byte {min(at, end)} it ends without an end "
            "mark, as one that was cut off. Get it again."
        )
    if block != _ZEROS:
        return block
    at += _BLOCK
    while at < end and (rest := file.read(min(_READ_AT_ONCE, end - at))):
        if stray := rest.lstrip(b"\0"):
            raise ValueError(
                f"{what} is no whole tar: its end mark is followed by more, at byte "
                f"{at + len(rest) - len(stray)}. Get it again."
            )
        at += len(rest)
    return None


def _apply(header, known):
    if any(key.startswith("GNU.sparse") for key in known):
        header.type = tarfile.GNUTYPE_SPARSE
    header.name = known.get("path", header.name)
    header.linkname = known.get("linkpath", header.linkname)
    if "size" in known:
        header.size = int(known["size"])


def _text(file, at, size, end):
    if not 0 <= size <= min(_LONGEST_HEADER, end - at):
        raise ValueError(f"an extended header would have {size} bytes")
    file.seek(at)
    return file.read(size)


def _pax(text):
    """{key: value} of records as b"30 path=a/very/long/name\\n"; the number counts the record."""
    records = {}
    while text.rstrip(b"\0"):
        number, _, _ = text.partition(b" ")
        length = int(number)
        record, text = text[:length], text[length:]
        key, separator, value = record[len(number) + 1 :].partition(b"=")
        if length <= len(number) or not separator or not value.endswith(b"\n"):
            raise ValueError("an extended header is damaged")
        records[_decoded(key)] = _decoded(value[:-1])
    return records


def _decoded(text):
    return text.decode("utf-8", "surrogateescape")


def _padded(size):
    return -(-size // _BLOCK) * _BLOCK
