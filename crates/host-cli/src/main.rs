//! The `remotemedia-host` program.
fn main() {}
