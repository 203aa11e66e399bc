/** Constants of the Linux user API (include/uapi) that callers of `Sys` pass. Same value on every architecture we load on. */

/** fcntl(2), F_ADD_SEALS: no further seals. */
export const F_SEAL_SEAL = 0x0001;
/** fcntl(2), F_ADD_SEALS: the file cannot become shorter. */
export const F_SEAL_SHRINK = 0x0002;
/** fcntl(2), F_ADD_SEALS: the file cannot become longer. */
export const F_SEAL_GROW = 0x0004;
/** fcntl(2), F_ADD_SEALS: the contents cannot change; refused (EBUSY) while a writable shared mapping exists. */
export const F_SEAL_WRITE = 0x0008;
/** fcntl(2), F_ADD_SEALS: no writes and no new writable mappings; those there are remain. */
export const F_SEAL_FUTURE_WRITE = 0x0010;

/** madvise(2): no special treatment. */
export const MADV_NORMAL = 0;
/** madvise(2): pages in ahead of use. */
export const MADV_WILLNEED = 3;
/** madvise(2): gives the pages back; private anonymous memory reads as zero afterwards. */
export const MADV_DONTNEED = 4;
/** madvise(2): children of fork do not get the range. */
export const MADV_DONTFORK = 10;
/** madvise(2): transparent huge pages. */
export const MADV_HUGEPAGE = 14;
/** madvise(2): left out of core dumps. */
export const MADV_DONTDUMP = 16;
/** madvise(2): undoes `MADV_DONTDUMP`. */
export const MADV_DODUMP = 17;

/** TUNSETOFFLOAD (linux/if_tun.h), for `TapOptions.offloads`: frames read from the TAP may lack their checksum. */
export const TUN_F_CSUM = 0x01;
/** TUNSETOFFLOAD: they may be TCP segments over IPv4 larger than the MTU; needs `TUN_F_CSUM`. */
export const TUN_F_TSO4 = 0x02;
/** TUNSETOFFLOAD: the same over IPv6. */
export const TUN_F_TSO6 = 0x04;
/** TUNSETOFFLOAD: such segments may carry ECN bits. */
export const TUN_F_TSO_ECN = 0x08;
/** TUNSETOFFLOAD: they may be UDP segments over IPv4 larger than the MTU; needs Linux 6.2. */
export const TUN_F_USO4 = 0x20;
/** TUNSETOFFLOAD: the same over IPv6. */
export const TUN_F_USO6 = 0x40;

/** inode(7): the bits of `FileStatus.mode` that hold the file type. */
export const S_IFMT = 0o170000;
/** inode(7): a regular file (memfd, tmpfs, hugetlbfs, disk). */
export const S_IFREG = 0o100000;
/** inode(7): a socket. */
export const S_IFSOCK = 0o140000;
