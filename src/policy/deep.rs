//! Work on a deep stack: parsing, analysing and dropping syntax trees is recursive inside regorus, and a hostile file can
//! make trees a thousand times deeper than is allowed before anyone can tell.

use std::io;

/// Enough for the deepest tree a file of the allowed size can hold, four times over (measured). Only pages that are
/// touched cost memory.
pub(super) const STACK_BYTES: usize = 256 * 1024 * 1024;

/// Runs `work` on a thread of its own with a deep stack, and waits for it. A panic in `work` is an error here.
pub(super) fn run<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().name("policy-load".into()).stack_size(STACK_BYTES);
        let handle = builder.spawn_scoped(scope, work)?;
        handle.join().map_err(|_| io::Error::other("the policy loader panicked"))
    })
}
