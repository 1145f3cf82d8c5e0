//! The real binary, real sockets, a real disk.

mod author;
mod catch_up;
mod client;
mod durability;
mod process;
mod refusals;
mod start;
mod stock;
