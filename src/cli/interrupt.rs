//! Ctrl-C and SIGTERM, for a command that has something to put in order before it ends.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::client::runtime;

/// What the shell is told of a command that Ctrl-C ended.
const EXIT_INTERRUPTED: i32 = 130;

/// Turns true with the first signal. The second ends the process where it is: nobody is kept waiting by what cannot look.
///
/// # Errors
/// Signals cannot be received.
pub fn interrupted() -> anyhow::Result<watch::Receiver<bool>> {
    let runtime = runtime()?;
    let (mut interrupt, mut terminate) = {
        let _context = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let (tell, told) = watch::channel(false);
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            for is_second in [false, true] {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if is_second {
                    std::process::exit(EXIT_INTERRUPTED);
                }
                let _ = tell.send(true);
            }
        });
    })?;
    Ok(told)
}
