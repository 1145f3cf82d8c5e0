//! The checks, by what they are about.

pub(crate) mod hostile;
pub(crate) mod stock;
pub(crate) mod sync;
pub(crate) mod web_socket;
