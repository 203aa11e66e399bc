/** Everything that peers, and files, can make this tool hold, in one place. */

/** A message up to this length is forwarded by one sendmsg, header included; a longer one goes in pieces as it comes. */
export const MAX_WHOLE_MESSAGE_BYTES = 1_310_720;
/** How much of a longer message is kept for decoding and for the capture. */
export const MAX_CAPTURED_BYTES: number = MAX_WHOLE_MESSAGE_BYTES;
/** First size of a direction's buffer; it grows to what its longest message needs. */
export const INITIAL_BUFFER_BYTES = 4096;
/** A message that stops in the middle is passed on as far as it came after this time. */
export const STALLED_MESSAGE_MS = 20;
/** Runs of bytes with descriptors (253 each) that are held of one message; more are passed on before it is whole. */
export const MAX_HELD_RUNS = 2;
/** A header with a size beyond this is reported (QEMU announces at most 64 MiB of data); its bytes are passed on all the same. */
export const MAX_PLAUSIBLE_MESSAGE_BYTES = 67_108_912;
/** Messages of one direction per turn of the event loop. */
export const MESSAGES_PER_TURN = 64;
/** Sessions at a time; a client beyond them waits in the listener's backlog. */
export const MAX_SESSIONS = 64;
export const LISTEN_BACKLOG = 16;
/** How long a client waits for a server whose backlog is full, and how often it is tried again. */
export const CONNECT_PATIENCE_MS = 5000;
export const CONNECT_RETRY_MS = 50;
/** Out of descriptors: when accepting is tried again. */
export const ACCEPT_RETRY_MS = 100;
/** How often a peer that sends nothing more is asked whether it still lives. */
export const HALF_CLOSED_PROBE_MS = 1000;

/** Observed messages that wait to be decoded, and their bytes: beyond it traffic waits for decoding. */
export const MAX_DEFERRED_MESSAGES = 65_536;
export const MAX_DEFERRED_BYTES = 67_108_864;
/** How often decoding gets a turn while messages come, and how long it takes then; when none come, and when too many wait. */
export const DECODE_EVERY_MS = 2;
export const DECODE_BUSY_MS = 0.2;
export const DECODE_IDLE_MS = 5;
/** Requests without an answer that are remembered per session, and their bytes; older ones are given up. */
export const MAX_OPEN_REQUESTS = 4096;
export const MAX_OPEN_REQUEST_BYTES = 16_777_216;
/** Regions whose sizes are remembered per session, to explain errors. */
export const MAX_KNOWN_REGIONS = 4096;
/** A request without a reply for so long is shown as unfinished. */
export const UNFINISHED_MS = 1000;
/** Latencies remembered per command for median and p99; beyond it a fair sample of all. */
export const MAX_LATENCY_SAMPLES = 65_536;

/** A dictionary file, and what is in it. */
export const MAX_DICTIONARY_BYTES = 16_777_216;
export const MAX_REGISTER_COUNT = 65_536;

/** Bytes of one packet of a capture, its header included: Wireshark takes a file with a larger one for damaged. */
export const MAX_PACKET_BYTES = 262_144;
/** Descriptors that are described of one message; a capture has room for 4094. */
export const MAX_DESCRIBED_FDS = 1024;
/** A capture file that is replayed is read into memory. */
export const MAX_CAPTURE_BYTES = 1_073_741_824;
/** One block of it: a packet with the longest message kept, its descriptors and its options. */
export const MAX_CAPTURE_BLOCK_BYTES = 16_777_216;

/** Bytes of one `read`, which keeps and shows them at once. */
export const MAX_READ_BYTES = 65_536;
/** Bytes of one `write`. */
export const MAX_WRITE_BYTES = 67_108_864;
/** Largest access of `dump`, unless the server takes less. */
export const DUMP_CHUNK_BYTES = 65_536;
/** A region up to this size is dumped as text without being asked for how much. */
export const MAX_DUMP_TEXT_BYTES = 16_777_216;
/** How often a device is asked whether four bytes of vital product data are there. */
export const MAX_VPD_POLLS = 64;
/** Sub-regions (ioeventfds) that `info` lists of one region; the rest is counted. */
export const MAX_LISTED_IO_FDS = 64;
/** Mappable areas that `info` lists of one region; the rest is counted. */
export const MAX_LISTED_AREAS = 64;
/** Text of one configuration space; a real card's is below 32 KiB. */
export const MAX_LSPCI_CHARS = 1_048_576;

/** Memory files that a replay keeps open. */
export const MAX_REPLAYED_FILES = 1024;
/** Messages that a server may send without being asked for them yet, their bytes and their descriptors; more end the replay. */
export const MAX_REPLAY_BACKLOG = 65_536;
export const MAX_REPLAY_BACKLOG_BYTES = 134_217_728;
export const MAX_REPLAY_BACKLOG_FDS = 1024;
/** Receives from a server under test per turn of the event loop. */
export const REPLAY_RECEIVES_PER_TURN = 16;
/** Differences that are printed; all are counted. */
export const MAX_PRINTED_DIFFERENCES = 1000;
/** --ignore options. */
export const MAX_IGNORED = 10_000;
