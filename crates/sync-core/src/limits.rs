//! Every limit of the protocol and of the machines, each with its reason.
//!
//! A limit that is hit is reported to whoever hit it, with a code from [`crate::code::Code`].

/// Largest WebSocket frame, in bytes. Longer messages travel in fragments, so that one large document
/// does not hold up the small messages of others behind it for longer than a frame takes.
pub const FRAME_BYTES_MAX: usize = 1 << 20;

/// Largest message after reassembly, in bytes: one update of the largest size and its envelope.
pub const MESSAGE_BYTES_MAX: usize = UPDATE_BYTES_MAX + 4096;

/// Largest update that a peer may send, in bytes. A SyncStep2 of a stock client carries a whole document: real ones
/// reach a few MB. What is stored may be larger, and travels in pieces.
pub const UPDATE_BYTES_MAX: usize = 16 << 20;

/// Largest document name, in bytes of UTF-8 (`docs/protocol.md`, "Names").
pub const DOCUMENT_NAME_BYTES_MAX: usize = 512;

/// Most clients that one update may name, most that its deletions may name, and so most that a document may
/// have: a snapshot of it is one update. Each costs a few hundred
/// bytes while it is admitted; documents with 20,000 clients exist.
pub const UPDATE_CLIENTS_MAX: usize = 1 << 17;

/// Largest name of a root type, map key, element, format or subdocument, in bytes of UTF-8.
/// Applications use URLs and paths as keys; nobody needs more, and each key is kept in memory.
pub const KEY_BYTES_MAX: usize = 16 << 10;

/// First number that is no client ID. Yjs client IDs are JavaScript integers below 2^53; yrs reads 2^53
/// itself as 0, which would be a second name for client 0.
pub const CLIENT_ID_END: u64 = 1 << 53;

/// First number that is no clock: yrs subtracts clocks as `i32`.
pub const CLOCK_END: u32 = 1 << 31;

/// Deepest nesting of arrays and maps inside one JSON-like value. yrs decodes values recursively.
pub const VALUE_DEPTH_MAX: usize = 64;

/// Deepest nesting of shared types. yrs deletes and drops them recursively.
pub const TYPE_DEPTH_MAX: u16 = 256;

/// Structs in one piece that admission hands on. yrs takes quadratic time and memory for many
/// contiguous structs in one transaction: 260,000 take 5 s, in batches of about 500 0.06 s (2026-11).
pub const PIECE_STRUCTS_MAX: usize = 512;

/// Bytes of such a piece, about: a text of any length leaves in parts that every connection carries. Only a single
/// value, which cannot be cut, is larger.
pub const PIECE_BYTES_MAX: usize = 1 << 20;

/// Missing IDs that admission names; more would not change the question that is asked.
pub const MISSING_MAX: usize = 16;

/// Documents open on one connection. Each costs the relay a member entry of about 200 bytes.
pub const CHANNELS_MAX: usize = 4096;

/// Updates a room has admitted and not yet committed, in bytes. Above it the relay stops reading
/// pushes for the room until the store catches up; TCP then slows the senders.
pub const UNCOMMITTED_BYTES_MAX: usize = 8 << 20;

/// Updates in one batch of one room, in bytes: bounds the size of a log row and of a fan-out message.
pub const BATCH_BYTES_MAX: usize = 1 << 20;

/// Recent batches a room keeps in memory for members that are behind, in bytes. A member that is
/// further behind is served from the log.
pub const RING_BYTES_MAX: usize = 1 << 20;

/// Awareness entries of one connection of the y-websocket door. A client owns one; proxies may own more.
pub const AWARENESS_ENTRIES_MAX: usize = 64;

/// Entries of one awareness update. Stock clients send back what they are told of others, and tell in one update of all
/// whom they take for gone.
pub const AWARENESS_UPDATE_ENTRIES_MAX: usize = 4096;

/// One awareness message, and all states of one connection, in bytes. Cursors and names take a few hundred.
pub const AWARENESS_BYTES_MAX: usize = 64 << 10;

/// Updates of other tabs that a replica holds back because something before them is missing, in bytes. Above it the
/// oldest are dropped: they are on the disk, and come from the relay once their tab has pushed them.
pub const HELD_BYTES_MAX: usize = 32 << 20;

/// Bytes of one `Push`: outbox rows are merged up to this size. Below the frame limit, so that a
/// backlog is acknowledged piece by piece and a lost connection repeats little.
pub const PUSH_BYTES_MAX: usize = 256 << 10;

/// Bytes pushed and not yet acknowledged on one channel, so that a device with a long backlog does not
/// fill the socket's buffers.
pub const PUSHED_BYTES_MAX: usize = 1 << 20;

/// Bytes of one turn's edits, of which one update is made: well below [`UPDATE_BYTES_MAX`], which the relay
/// would refuse for good.
pub const DRAFT_BYTES_MAX: usize = UPDATE_BYTES_MAX / 2;
