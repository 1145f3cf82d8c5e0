//! What hostile updates of 2 MB cost: memory is bounded, time is printed.

use crate::crafted::{after, gc, in_root, uint};
use bytes::Bytes;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Instant;
use tidewell_sync_core::admission::Admitted;
use tidewell_sync_core::limits::{PIECE_STRUCTS_MAX, UPDATE_CLIENTS_MAX};
use tidewell_sync_core::update::{InvalidUpdate, Scan};

/// Counts what each thread holds, so that tests can run beside each other, and spoils what is freed, so
/// that using it again does not go well by chance.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static HELD_MOST: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = HELD_MOST.try_with(|most| most.set(most.get().max(held.get())));
    });
}

// SAFETY: hands everything on to the system's allocator; counting allocates nothing.
#[allow(unsafe_code, reason = "measuring memory needs an allocator")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // Whoever reads this afterwards should not find what was there.
        unsafe { pointer.write_bytes(0xdd, layout.size()) };
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const UPDATE_BYTES: usize = 2 << 20;
const MEMORY_BYTES_MAX: isize = 64 << 20;

/// One client with many structs: the first, then others made from their clocks.
fn many(first: Vec<u8>, each: impl Fn(u32) -> Vec<u8>) -> Bytes {
    let mut structs = first;
    let mut count = 1;
    while structs.len() < UPDATE_BYTES - 32 {
        structs.extend(each(count));
        count += 1;
    }
    [uint(1), uint(u64::from(count)), uint(1), uint(0), structs, uint(0)].concat().into()
}

fn cost(name: &str, update: &Bytes) {
    let held = HELD.get();
    HELD_MOST.set(held);
    let start = Instant::now();
    let mut admitted = Admitted::new();
    let admission = admitted.admit(update);
    let (time, most) = (start.elapsed(), HELD_MOST.get() - held);
    let pieces = admission.as_ref().map(|admission| admission.pieces.len());
    println!("{name}: {} bytes, {pieces:?} pieces, {time:?}, {} KiB at most", update.len(), most >> 10);
    assert!(most <= MEMORY_BYTES_MAX, "{name} takes {most} bytes");
    for piece in admission.iter().flat_map(|admission| &admission.pieces) {
        assert!(Scan::new(piece).unwrap().structs <= PIECE_STRUCTS_MAX);
    }
}

#[test]
fn ad20_two_megabytes_of_the_smallest_structs_take_at_most_64_megabytes() {
    cost("typed text", &many(in_root("t").text("a"), |clock| after(1, clock - 1).text("a")));
    cost("values", &many(in_root("t").numbers(&[1]), |clock| after(1, clock - 1).numbers(&[1])));
    cost("collected", &many(gc(1), |_| gc(1)));
    cost(
        "alternating",
        &many(
            in_root("t").text("a"),
            |clock| {
                if clock % 2 == 0 { after(1, clock - 2).text("a") } else { gc(1) }
            },
        ),
    );
    cost("one struct of many values", &{
        let values = vec![126u8; UPDATE_BYTES];
        [
            uint(1),
            uint(1),
            uint(1),
            uint(0),
            in_root("t").content(8, &[uint(values.len() as u64), values].concat()),
            uint(0),
        ]
        .concat()
        .into()
    });
}

#[test]
fn ad2_as_many_clients_as_an_update_may_name_take_at_most_64_megabytes() {
    let clients = |count: u64, each: fn(u64) -> Vec<u8>| {
        let sections = (0..count).flat_map(|client| each(client + (1 << 30))).collect();
        Bytes::from([uint(count), sections, uint(0)].concat())
    };
    let most = UPDATE_CLIENTS_MAX as u64;
    let with_one = |client| [uint(1), uint(client), uint(0), gc(1)].concat();
    cost("clients", &clients(most, with_one));
    assert_eq!(Admitted::new().admit(&clients(most + 1, with_one)), Err(InvalidUpdate::Clients));
    cost("clients without structs", &clients(most, |client| [uint(0), uint(client), uint(0)].concat()));
    cost("clients that wait", &clients(most, |client| [uint(1), uint(client), uint(5), gc(1)].concat()));
}

#[test]
fn ad2_a_document_has_no_more_clients_than_an_update_may_name() {
    let update = |clients: std::ops::Range<u64>, clock: u64| {
        let count = clients.end - clients.start;
        let sections =
            clients.flat_map(|client| [uint(1), uint(client), uint(clock), gc(1)].concat()).collect();
        Bytes::from([uint(count), sections, uint(0)].concat())
    };
    let most = UPDATE_CLIENTS_MAX as u64;
    let mut admitted = Admitted::new();
    assert!(admitted.admit(&update(0..most - 1, 0)).unwrap().is_complete());
    let before = admitted.clone();
    assert_eq!(admitted.admit(&update(most..most + 2, 0)), Err(InvalidUpdate::Clients));
    assert_eq!(before, admitted);
    assert!(admitted.admit(&update(most..most + 1, 0)).unwrap().is_complete());
    assert_eq!(admitted.admit(&update(most + 1..most + 2, 0)), Err(InvalidUpdate::Clients));
    assert!(admitted.admit(&update(7..9, 1)).unwrap().is_complete(), "known clients go on");
}

#[test]
fn ad20_two_megabytes_of_deletions_take_at_most_64_megabytes() {
    let ranges = (UPDATE_BYTES / 4) as u64;
    let mut bytes =
        [uint(1), uint(1), uint(1), uint(0), gc(ranges * 3), uint(1), uint(1), uint(ranges)].concat();
    for range in 0..ranges {
        bytes.extend(uint(range * 2));
        bytes.extend(uint(1));
    }
    cost("ranges of one client", &bytes.into());
    let clients = UPDATE_CLIENTS_MAX as u64;
    let mut bytes = [uint(0), uint(clients)].concat();
    for client in 0..clients {
        bytes.extend([uint(client), uint(1), uint(0), uint(1)].concat());
    }
    cost("ranges of many clients", &bytes.into());
}
