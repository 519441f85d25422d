//! Threads of the admin plane's own, so that no call ever waits behind what readers are sent.
//!
//! They stand back behind the data plane's a little: enough that those come first, and not so much that an emergency stop would
//! not get through to a machine that is busy.

use std::io;
use std::num::NonZeroUsize;

use tokio::runtime::{Builder, Handle, Runtime};

use super::turns::{STACK_BYTES, stand_back};

/// How much these threads stand back (`nice`).
const NICE: i32 = 5;

/// A runtime that lets go of what it still does when it is dropped.
pub struct Apart {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl Apart {
    /// Starts as many threads as leave the data plane half of the processors.
    ///
    /// # Errors
    /// The machine gives no threads.
    pub fn start() -> io::Result<Self> {
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let runtime = Builder::new_multi_thread()
            .worker_threads((processors / 2).max(1))
            .thread_name("admin")
            .thread_stack_size(STACK_BYTES)
            .on_thread_start(|| stand_back(NICE))
            .enable_all()
            .build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Where its tasks are spawned.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting for its threads is not allowed where other tasks run.
            runtime.shutdown_background();
        }
    }
}
