//! The relay's own limits, each with its reason. Those of the protocol are in
//! [`tidewell_sync_core::limits`].

use std::time::Duration;

/// Buffer for reading a socket. axum's default of 128 KiB would be most of an idle connection's memory, and 4 KiB still
/// were a third of it. Longer frames grow it, and it stays at up to twice the largest: with 2 KiB an update of 1 KB left
/// 4 KiB behind (2026-11).
pub(crate) const READ_BUFFER_BYTES: usize = 1 << 10;

/// Bytes gathered before they are written to a socket without a flush.
pub(crate) const WRITE_BUFFER_BYTES: usize = 16 << 10;

/// Largest frame that the relay sends. tungstenite keeps a buffer of this size for as long as the
/// connection lives, and small messages wait behind one frame at most.
pub(crate) const SENT_FRAME_BYTES_MAX: usize = 64 << 10;

/// A connection collects from its rooms until it has this much to write; the other rooms wait their turn.
pub(crate) const OUTGOING_BYTES_MAX: usize = 1 << 20;

/// Replies (pongs and the like) that wait to be written, in bytes. Above it the connection is not read:
/// a peer that asks without reading the answers costs no more than this.
pub(crate) const REPLIES_BYTES_MAX: usize = 64 << 10;

/// Frames that are taken from a socket before its rooms are asked what to tell it: one commit's wake-up
/// then covers many pushes, and no peer keeps its own answers waiting for long.
pub(crate) const FRAMES_AT_ONCE_MAX: usize = 64;

/// Bytes of those frames: what a sender can exceed the limit of its room by.
pub(crate) const FRAMES_AT_ONCE_BYTES: usize = 256 << 10;

/// Messages that are taken before the connection looks at what else there is: as many pushes take some milliseconds, and a
/// frame may hold a million.
pub(crate) const MESSAGES_AT_ONCE_MAX: usize = 256;

/// What a channel costs, about: its member, and its part of a room that may be nobody else's.
pub(crate) const CHANNEL_BYTES: usize = 512;

/// A client that has said nothing for so long is asked whether it is there.
pub(crate) const PING_AFTER: Duration = Duration::from_secs(25);

/// A client that has said nothing for so long is taken for gone. One that stands still for a minute, in a debugger or on
/// a machine that swaps, goes on where it was.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(100);

/// A request's head must be there within this time, from the connection's beginning or from the last answer: whoever
/// connects and says nothing, or a letter a second, holds a descriptor no longer.
pub(crate) const REQUEST_HEAD_WITHIN: Duration = Duration::from_secs(10);

/// Bytes of a request's head: a token, a ticket and a name fit several times. One that comes at once may have up to twice as
/// many: what was read together with the last of these is looked at too.
pub(crate) const REQUEST_HEAD_BYTES_MAX: usize = 64 << 10;

/// A connection takes requests for so long. Whoever does not read its answers has it no longer than that …
pub(crate) const REQUESTS_FOR: Duration = Duration::from_secs(60);

/// … and the last of them may take so long: a file of the page, over a slow line.
pub(crate) const LAST_ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// HTTP requests of one address in a second (`--requests-per-second`), of a network of 64 bits in IPv6: with a token that is
/// to be checked each takes about 100 µs. After a pause [`RATE_BURST`] as many, which lets a school of
/// [`CONNECTIONS_PER_ADDRESS`] ask for a ticket each at once, for which pages of another origin ask twice.
pub(crate) const REQUESTS_PER_SECOND: u64 = 400;

/// Descriptors that connections leave to the relay itself: the store's readers, materializers, files of the page.
pub(crate) const DESCRIPTORS_KEPT: i64 = 32;

/// Descriptors that are left to operators on this machine besides, who ask what is the matter when there are no others.
pub(crate) const DESCRIPTORS_FOR_OPERATORS: i64 = 4;

/// Where the system has no more descriptors, one is asked for again after this.
pub(crate) const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(250);

/// A connection must say `Hello` within this time.
pub(crate) const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// How long a closed connection may take to answer the close.
pub(crate) const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// Bytes of one transaction. What is beyond it goes into the next one: bounds the latency of a commit.
pub(crate) const COMMIT_BYTES_MAX: usize = 16 << 20;

/// Time between two commits while many rooms write. At 8,000 updates/s in 2,000 documents the relay takes half as
/// much CPU for each as with commits one after the other (79 µs, with 2 ms 56, with 4 ms 44), and the median update
/// comes 2 ms later (2026-11).
pub(crate) const COMMIT_SPACING: Duration = Duration::from_millis(4);

/// Rooms within that time that count as many: 2,000 updates/s. PostgreSQL's `commit_siblings` is 5.
pub(crate) const COMMIT_BUSY_ROOMS: usize = 8;

/// Bytes admitted and not committed in all rooms together. Above it no connection that has pushed is
/// read: a failing disk costs this much memory and no more.
pub(crate) const UNCOMMITTED_BYTES_TOTAL_MAX: usize = 256 << 20;

/// First pause after a failed commit; doubled up to [`RETRY_AFTER_MAX`].
pub(crate) const RETRY_AFTER_MIN: Duration = Duration::from_millis(50);

/// Longest pause after a failed commit: acknowledgements resume this soon after the disk does.
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_secs(1);

/// A room whose row the store refuses is tried again after this, and operators are told again: what is wrong does not end
/// by itself.
pub(crate) const SET_ASIDE_FOR: Duration = Duration::from_secs(5);

/// Read-only connections to the store. Each has a page cache of 2 MB at most.
pub(crate) const READERS_MAX: usize = 4;

/// The WAL is moved into the main file this often: bounds its size and the time to open after a crash.
pub(crate) const CHECKPOINT_EVERY: Duration = Duration::from_secs(5);

/// Pages of 4 KiB after which the WAL is made to start anew, for which commits wait some milliseconds. Where it has a
/// pause of its own it starts anew by itself.
pub(crate) const WAL_PAGES_MAX: u64 = 8 << 10;

/// Rows that were committed move to their documents' places in the log when there are so many: enough that several of
/// one document move together.
pub(crate) const SETTLE_ROWS: usize = 16 << 10;

/// … or when they have so many bytes: what they take of memory.
pub(crate) const SETTLE_BYTES: usize = 4 << 20;

/// So many times as many are kept where they come faster than they move: commits wait for the rest.
pub(crate) const RECENT_FACTOR_BUSY: usize = 2;

/// So many times as many are kept where they cannot be moved: then nothing is committed until they can.
pub(crate) const RECENT_FACTOR_MAX: usize = 4;

/// Rows that move at a time, so that no commit waits long behind them: about 2 ms.
pub(crate) const SETTLE_ROWS_AT_ONCE: usize = 512;

/// A row of this size goes to its place at once: it would not share a page with many others.
pub(crate) const RECENT_ROW_BYTES_MAX: usize = 1 << 10;

/// Old rows are looked for this often.
pub(crate) const PRUNE_EVERY: Duration = Duration::from_secs(3600);

/// Rows deleted at a time, so that no commit waits long behind it …
pub(crate) const PRUNE_ROWS_MAX: usize = 2_000;

/// … and their bytes: of a large row each page is read.
pub(crate) const PRUNE_BYTES_MAX: i64 = 16 << 20;

/// Documents whose old rows are deleted together: one sync for all of them.
pub(crate) const PRUNE_DOCUMENTS_MAX: usize = 100;

/// The rooms are swept this often.
pub(crate) const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// A room that nobody is in leaves memory after this: page reloads find it still there.
pub(crate) const ROOM_IDLE_AFTER: Duration = Duration::from_secs(10);

/// A shared catch-up is kept this long after its last use: a stampede finds it still there.
pub(crate) const CATCH_UP_KEPT: Duration = Duration::from_secs(10);

/// Commits by which a shared catch-up may be behind; what is missing follows from the ring or the log.
pub(crate) const CATCH_UP_COMMITS_BEHIND_MAX: u64 = 256;

/// Rows are merged into parts of about this size: well below the largest update, and bounded work for
/// whoever applies one.
pub(crate) const CATCH_UP_PART_BYTES: usize = 2 << 20;

/// A document below this size is sent in one piece.
pub(crate) const CATCH_UP_WHOLE_BYTES: usize = 64 << 10;

/// Rows that are read at a time for a member that is behind: what a slow reader costs, however far behind
/// it is.
pub(crate) const CATCH_UP_LOG_BYTES: usize = 2 << 20;

/// Rows after the last snapshot that make compaction worth while: loading them takes about 1 ms.
pub(crate) const COMPACT_ROWS_MIN: u64 = 500;

/// Bytes after the last snapshot that make compaction worth while, if they are half the snapshot too
/// (so that the work stays proportional to what was written).
pub(crate) const COMPACT_BYTES_MIN: u64 = 256 << 10;

/// A document is compacted when nothing was committed for this long …
pub(crate) const COMPACT_QUIET: Duration = Duration::from_secs(2);

/// … or when it has this many times the minimum above.
pub(crate) const COMPACT_BUSY_FACTOR: u64 = 8;

/// Presence of all who are in one room, in bytes: thousands of cursors.
pub(crate) const AWARENESS_ROOM_BYTES_MAX: usize = 4 << 20;

/// Clients that have gone and that not every member of the y-websocket door was told of, in one room.
pub(crate) const AWARENESS_GONE_MAX: usize = 1024;

/// First pause of all compaction after a failure that is no document's (a process cannot be started, the disk fails);
/// doubled up to [`COMPACT_PAUSE_MAX`].
pub(crate) const COMPACT_PAUSE_MIN: Duration = Duration::from_secs(1);

/// Longest pause of compaction: how rarely a failure that lasts is tried and told again.
pub(crate) const COMPACT_PAUSE_MAX: Duration = Duration::from_secs(600);

/// Materializer processes. One core's worth beside the relay's own work.
pub(crate) const MATERIALIZERS_MAX: usize = 2;

/// Address space of a materializer process. A 3.5 kB update can make yrs take 16 GB.
pub(crate) const MATERIALIZER_MEMORY_BYTES: u64 = 2 << 30;

/// Time for one job. 260,000 edits take about 1 s.
pub(crate) const MATERIALIZER_TIME: Duration = Duration::from_secs(30);

/// Bytes of one job or answer.
pub(crate) const MATERIALIZER_FRAME_BYTES_MAX: usize = 256 << 20;

/// A materializer process ends when it had nothing to do for so long: its memory is given back.
pub(crate) const MATERIALIZER_IDLE: Duration = Duration::from_secs(10);

/// Updates in one yrs transaction: one for all is quadratic, one for each is slower (0.8 s against 5.7 s
/// for 260,000 updates, 2026-11).
pub(crate) const UPDATES_PER_TRANSACTION: usize = 64;

/// A drain flushes for this long while it goes on serving …
pub(crate) const DRAIN_FLUSH: Duration = Duration::from_secs(3);

/// … then gives connections this long to close (a little more than one may take, see [`CLOSE_WITHIN`]) …
pub(crate) const DRAIN_CLOSE: Duration = Duration::from_millis(2_300);

/// … then commits what came meanwhile …
pub(crate) const DRAIN_LAST_FLUSH: Duration = Duration::from_millis(500);

/// … and gives the writer what is left of this to move the WAL into the main file: the promise is 8 s.
pub(crate) const DRAIN_WITHIN: Duration = Duration::from_millis(7_500);
const _: () = assert!(
    DRAIN_FLUSH.as_millis() + DRAIN_CLOSE.as_millis() + DRAIN_LAST_FLUSH.as_millis() + 1_000
        < DRAIN_WITHIN.as_millis()
);

/// Shortest time after which clients are told to come back.
pub(crate) const RETURN_AFTER_MIN: Duration = Duration::from_millis(500);

/// Longest time after which clients are told to come back.
pub(crate) const RETURN_AFTER_MAX: Duration = Duration::from_secs(30);

/// Clients that come back in one millisecond, about: 2,000 a second.
pub(crate) const RETURNS_PER_MS: usize = 2;

/// Shortest time after which those are told to come back who met a limit that only others' leaving lifts.
pub(crate) const FULL_RETURN_MIN: Duration = Duration::from_secs(5);

/// … and the longest: a uniform part of the time between, so that they do not come back together.
pub(crate) const FULL_RETURN_MAX: Duration = Duration::from_secs(30);

/// Clients that are told at a time, on a socket of their own, that they cannot be served now. Browsers hide the status of
/// a failed upgrade, but a flood is refused with that.
pub(crate) const TOLD_AT_ONCE_MAX: usize = 256;

/// Connections of one address at a time that are told that there are too many; more are closed without a word.
pub(crate) const TOLD_PER_ADDRESS_MAX: usize = 256;

/// Open files that are no connections: the store, its readers, materializers, requests of operators, those who are told to
/// come back.
pub(crate) const FILES_RESERVED: u64 = 512;

/// Connections where the system does not limit open files: some kilobytes each.
pub(crate) const CONNECTIONS_MAX: usize = 1 << 20;

/// Connections of one subject (`--connections-per-subject`): a person has some devices and tabs, and a y-websocket client
/// takes one for each document.
pub(crate) const CONNECTIONS_PER_SUBJECT: u32 = 500;

/// Connections of one address, of a network of 64 bits in IPv6 (`--connections-per-address`), whatever they are: a school behind one address
/// has about as many.
pub(crate) const CONNECTIONS_PER_ADDRESS: u32 = 2_000;

/// Documents that are loaded at a time: each is read whole, and admitted.
pub(crate) const LOADS_AT_ONCE: usize = 8;

/// Connections that have not been let in yet, and documents that are loaded or wait for it (`--joins-max`): each may make the relay keep
/// a frame and check a token. 10,000 devices that come back within two seconds are let in.
pub(crate) const JOINS_MAX: u32 = 4_096;

/// Updates, openings and questions of one connection in a second (`--updates-per-second`): a person makes ten, and at
/// about 80 µs each (2026-11) one connection takes less than half a core.
pub(crate) const UPDATES_PER_SECOND: u64 = 5_000;

/// Bytes of one connection's messages in a second (`--bytes-per-second`): more than most lines carry.
pub(crate) const BYTES_PER_SECOND: &str = "16M";

/// After a pause a connection may go so long without one: a device hands over what it made offline.
pub(crate) const RATE_BURST: Duration = Duration::from_secs(10);

/// News of presence of one connection in a second (`--presence-per-second`), each of which everybody in its room is told.
/// A cursor that follows a pointer makes as many as a screen has frames; eyes need a third of them.
pub(crate) const PRESENCE_PER_SECOND: u64 = 30;

/// After a pause so many seconds' worth at once.
pub(crate) const PRESENCE_BURST: Duration = Duration::from_secs(2);

/// Tokens of one connection in a second: checking one takes about 100 µs, and honest ones live for minutes.
pub(crate) const REFRESHES_PER_SECOND: u64 = 1;

/// After a pause so many seconds' worth at once.
pub(crate) const REFRESH_BURST: Duration = Duration::from_secs(10);

/// A stock client's question for what it lacks counts as so many updates: a whole document may be read for it.
pub(crate) const QUESTION_UPDATES: usize = 100;

/// What goes faster than it may is owed, and paid by not being read, for this long at most: a rate that is far too low by
/// mistake shuts nobody out for good.
pub(crate) const DEBT_MAX: Duration = Duration::from_secs(3600);

/// Those who wait for their tenant look no sooner than this: many wait for one, and what is earned meanwhile is not lost.
pub(crate) const TENANT_LOOK_EVERY: Duration = Duration::from_millis(100);

/// A client that is not read, or whose message is long on its way, hears so often that the relay is there: clients give one
/// up that leaves a question unanswered for 10 s, and y-websocket's one that has said nothing for 30 s.
pub(crate) const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);

/// Size of a document (`--document-bytes-max`): its last snapshot and the rows after it. A larger one could not be
/// compacted any more ([`MATERIALIZER_FRAME_BYTES_MAX`]), and everybody who opens it loads all of it. Its history, the rows
/// that its snapshot covers, has so many bytes besides at most: to a device that lacks more of them the document is sent.
pub(crate) const DOCUMENT_BYTES_MAX: &str = "200M";

/// The relay takes so much of the memory that there is for it (`--memory-max`), numerator and denominator. The rest is for
/// materializers, the system's cache, and what comes between two looks.
pub(crate) const MEMORY_SHARE: (u64, u64) = (5, 8);

/// Below this a relay has no room for its own needs.
pub(crate) const MEMORY_MAX_MIN: u64 = 64 << 20;

/// The memory that is taken is looked at so often: it grows by some ten megabytes meanwhile.
pub(crate) const MEMORY_EVERY: Duration = Duration::from_millis(100);

/// The allocator keeps no freed block that is larger. Only long messages, and documents that are loaded, have such.
pub(crate) const KEPT_BLOCK_BYTES_MAX: i32 = 1 << 20;

/// After the allocator has given back what it keeps, it is left alone for so many times as long as that took: where nothing
/// is to be had, that costs a twentieth of one processor at most.
pub(crate) const GIVE_BACK_REST: u32 = 20;

/// A connection that leaves unread what it shares with others counts this often what is its part of that.
pub(crate) const COUNT_AGAIN_EVERY: Duration = Duration::from_secs(1);

/// Who makes the relay keep less is not sent away for the memory that the process takes.
pub(crate) const SHED_BYTES_MIN: usize = 64 << 10;

/// A connection looks again when half a message has grown by so much. As in [`SHED_BYTES_MIN`], less does not matter.
pub(crate) const HALF_MESSAGE_STEP_BYTES: usize = SHED_BYTES_MIN;

/// Tickets of one subject that nobody has used yet: a page may have as many documents open, and asks for all at once.
pub(crate) const TICKETS_PER_SUBJECT: usize = 256;

/// Bytes of a token: it comes before anybody is known, and is parsed.
pub(crate) const TOKEN_BYTES_MAX: usize = 8 << 10;

/// By how much the clocks of whoever makes tokens and of the relay may differ.
pub(crate) const TOKEN_LEEWAY: Duration = Duration::from_secs(10);

/// Bytes of a keys file: some thousand keys.
pub(crate) const KEYS_FILE_BYTES_MAX: u64 = 1 << 20;

/// A ticket is good for so long: a page fetches it, and connects.
pub(crate) const TICKET_VALID: Duration = Duration::from_secs(30);

/// Tickets that nobody has used yet: about 500 a second, and some kilobytes each.
pub(crate) const TICKETS_MAX: usize = 16 << 10;

/// Revoked subjects and tokens, and segments of revoked documents' names (once where names have them in common), which are
/// kept in memory and for good.
pub(crate) const REVOCATIONS_MAX: usize = 100_000;

/// … of them segments of one tenant's names, whose own administrators may revoke: others are to have room for theirs.
pub(crate) const TENANT_REVOCATIONS_MAX: usize = 10_000;

/// Bytes of an administrator's request.
pub(crate) const ADMIN_BODY_BYTES_MAX: usize = 4 << 10;

/// … and how long they may take to come.
pub(crate) const ADMIN_BODY_WITHIN: Duration = Duration::from_secs(10);

/// The keys file is read again this often.
pub(crate) const KEYS_READ_EVERY: Duration = Duration::from_secs(2);

/// Bytes of a certificate's file, or of its key's: some hundred certificates.
pub(crate) const CERTIFICATE_FILE_BYTES_MAX: u64 = 1 << 20;

/// A TLS handshake takes at most this long: two round trips, over links that lose packets.
pub(crate) const TLS_HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// TLS handshakes at a time; who comes then is closed, and comes back. Each has a socket and some 20 kB, and takes the
/// processor for less than a millisecond. Trusted proxies and this machine have as many for themselves.
pub(crate) const TLS_HANDSHAKES_MAX: usize = 4 << 10;

/// One address gets this part of them: some that say nothing do not keep everybody out.
pub(crate) const TLS_HANDSHAKE_SHARE: usize = 4;

/// Bytes of an HMAC secret, as RFC 7518 asks for. Whoever has a token can try secrets on it.
pub(crate) const HMAC_SECRET_BYTES_MIN: usize = 32;
