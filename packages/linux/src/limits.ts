/** Kernel limits and our own time limits, in one place. */

/** SCM_MAX_FD: the kernel accepts at most this many descriptors in one SCM_RIGHTS message. */
export const MAX_FDS_PER_MESSAGE = 253;
/** sun_path has 108 bytes and we keep its terminating NUL. */
export const MAX_SOCKET_PATH_BYTES = 107;
/** IFNAMSIZ without its NUL. */
export const MAX_INTERFACE_NAME_BYTES = 15;
/** How long `unixConnect` waits for a listener whose backlog is full. */
export const CONNECT_TIMEOUT_MS = 5000;
/** How often a stale socket file may be replaced by somebody else while we try to bind. */
export const LISTEN_ATTEMPTS = 3;
/** Period of the fall-back watcher, used where koffi has no readiness watcher. */
export const FALLBACK_WATCH_MS = 2;
/** Signals of eventfds between two system calls that clear away what is left of them; counts against fs.aio-max-nr per thread. */
export const AIO_COMPLETIONS = 64;
/** How long threads that spin keep their event loop waiting at a time, microseconds: one more turn of it costs some 5. */
export const SPIN_TURN_US = 200;
/** Spins in a row that found nothing before a socket's traffic counts as sparse ... */
export const SPIN_VAIN_LIMIT = 3;
/** ... and then up to this many times as many messages in close succession are wanted before the next spin. */
export const SPIN_MAX_BACKOFF = 64;
