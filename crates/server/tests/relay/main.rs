//! The real binary, real sockets, a real disk.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod administration;
mod attempts;
mod author;
mod backup;
mod catch_up;
mod client;
mod compaction;
mod conformance;
mod crowds;
mod disk;
mod durability;
mod forwarded;
mod memory;
mod process;
mod quotas;
mod refusals;
mod requests;
mod rooms;
mod start;
mod stock;
mod tickets;
mod tls;
mod token_command;
mod tokens;
mod unauthorized;
