//! The crates together, without network, programs or waiting.

mod send_sync;
