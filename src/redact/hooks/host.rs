//! The host: one WebAssembly component, called in a fresh instance with bounds on time, memory, stack and output.
//!
//! A guest gets what it is asked about as arguments and one import, `log`. It has no file, network, clock, randomness or
//! environment, and no memory of earlier calls. Whatever it does ends as edits or as a [`Failure`]. What the fields are,
//! and what becomes of the edits, is not known here.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Config, Engine, ResourceLimiter, Store, Trap};

use super::failure::{Cause, Failure};
use crate::text::truncated;

pub(super) use bindings::docket::redaction::types::{Action, Context, Edit, Field, Value};

mod bindings {
    wasmtime::component::bindgen!({
        path: "wit/redactor.wit",
        world: "redactor",
        ownership: Borrowing { duplicate_if_necessary: false },
    });
}

/// Imports that a hook may have: what `wit/redactor.wit` gives it.
const OWN_IMPORTS: &str = "docket:redaction/";
/// Imports that may be given as traps.
const WASI_IMPORTS: &str = "wasi:";
/// A hook's deadline is counted in these, in milliseconds.
const TICK_MS: u64 = 1;
/// Stack of the guest, in bytes.
const MAX_STACK_BYTES: usize = 512 << 10;
/// What a guest may hand over in one call, its answer or a log line, in bytes.
const MAX_OUTPUT_BYTES: usize = 1 << 20;
/// Elements of all tables of one call.
const MAX_TABLE_ELEMENTS: usize = 1 << 20;
/// Instances, tables and memories of one call: some languages bring a dozen libraries.
const MAX_INSTANCES: usize = 256;
/// Log lines kept of one call.
const MAX_LINES: usize = 16;
/// Bytes kept of one log line.
const MAX_LINE_BYTES: usize = 512;

/// What one call of a hook may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Until its answer is there.
    pub deadline: Duration,
    /// All its linear memories together, in bytes.
    pub max_memory_bytes: usize,
}

/// What to do with a component that imports WASI, which no hook gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wasi {
    /// It does not load.
    #[default]
    Deny,
    /// It loads, and calling any of those imports ends the call.
    Trap,
}

/// One line that a guest logged.
#[derive(Debug)]
pub(super) struct Line {
    /// As the guest says.
    pub level: tracing::Level,
    /// Not redacted.
    pub message: String,
}

/// The engine that all hooks share, with the ticker their deadlines are counted by. Both start with the first component: without
/// one there is nothing to compile and nothing to cut off.
#[derive(Default)]
pub struct Host {
    engine: OnceLock<Result<Engine, String>>,
}

impl Host {
    /// The engine, running.
    ///
    /// # Errors
    /// The machine is none that the compiler knows, or there is no thread for the ticker.
    pub(super) fn engine(&self) -> Result<&Engine, String> {
        self.engine.get_or_init(start).as_ref().map_err(Clone::clone)
    }

    /// Links a component to what a hook may have.
    pub(super) fn link(&self, component: &Component, wasi: Wasi) -> Result<Guest, String> {
        let engine = self.engine()?;
        let foreign: Vec<String> = imports(engine, component)
            .into_iter()
            .filter(|name| !name.starts_with(OWN_IMPORTS))
            .filter(|name| wasi == Wasi::Deny || !name.starts_with(WASI_IMPORTS))
            .collect();
        if let Some(import) = foreign.first() {
            let help = if import.starts_with(WASI_IMPORTS) {
                "; build it without WASI, or set `wasi = \"trap\"` if it never calls that"
            } else {
                ""
            };
            return Err(format!("it imports `{import}`, which no hook gets{help}"));
        }
        let mut linker = Linker::<State>::new(engine);
        let prepared = bindings::Redactor::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)
            .and_then(|()| {
                if wasi == Wasi::Trap {
                    linker.define_unknown_imports_as_traps(component)?;
                }
                bindings::RedactorPre::new(linker.instantiate_pre(component)?)
            });
        let pre = prepared.map_err(|error| {
            format!("it is no redaction hook: {error:#}; build it against `docket:redaction@0.1.0` (`wit/redactor.wit`)")
        })?;
        Ok(Guest { pre })
    }
}

fn start() -> Result<Engine, String> {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .concurrency_support(false)
        .epoch_interruption(true)
        .wasm_backtrace_max_frames(None)
        .max_wasm_stack(MAX_STACK_BYTES);
    let engine =
        Engine::new(&config).map_err(|error| format!("the WebAssembly engine cannot start: {error:#}"))?;
    let weak = engine.weak();
    let (started, mut ticks) = (Instant::now(), 0_u128);
    let tick = move || {
        while let Some(engine) = weak.upgrade() {
            // On a busy machine a sleep takes longer; a deadline must not.
            let due = started.elapsed().as_millis() / u128::from(TICK_MS);
            (ticks..due).for_each(|_| engine.increment_epoch());
            ticks = due;
            drop(engine);
            std::thread::sleep(Duration::from_millis(TICK_MS));
        }
    };
    let thread = std::thread::Builder::new().name("hook-ticker".into()).spawn(tick);
    thread.map_err(|error| format!("there is no thread for its deadline: {error}"))?;
    Ok(engine)
}

/// The names of a component's imports.
pub(super) fn imports(engine: &Engine, component: &Component) -> Vec<String> {
    component.component_type().imports(engine).map(|(name, _)| name.to_owned()).collect()
}

/// A component that is ready to be called.
pub(super) struct Guest {
    pre: bindings::RedactorPre<State>,
}

impl Guest {
    /// Asks it, in an instance of its own that is gone afterwards.
    pub(super) fn call(
        &self,
        bounds: Bounds,
        context: Context<'_>,
        fields: &[Field<'_>],
    ) -> (Result<Vec<Edit>, Failure>, Vec<Line>) {
        let mut store = Store::new(self.pre.engine(), State::new(bounds));
        store.limiter(|state| &mut state.meter);
        store.set_hostcall_fuel(MAX_OUTPUT_BYTES);
        let ticks = u64::try_from(bounds.deadline.as_millis()).unwrap_or(u64::MAX) / TICK_MS;
        // The tick that is passing counts for nothing.
        store.set_epoch_deadline(ticks.saturating_add(1));
        let answer = self
            .pre
            .instantiate(&mut store)
            .and_then(|guest| guest.docket_redaction_hook().call_redact(&mut store, context, fields));
        let result = match answer {
            Ok(Ok(edits)) => Ok(edits),
            Ok(Err(message)) => Err(Failure::new(Cause::Error, truncated(&message, MAX_LINE_BYTES))),
            Err(error) => Err(failure(&error, &store.data().meter)),
        };
        (result, store.into_data().lines)
    }
}

/// What an ended call says of its cause.
fn failure(error: &wasmtime::Error, meter: &Meter) -> Failure {
    let text = format!("{error:#}");
    let cause = match error.downcast_ref::<Trap>() {
        _ if meter.is_exceeded => Cause::Memory,
        Some(Trap::Interrupt) => Cause::Deadline,
        Some(Trap::StackOverflow) => Cause::Stack,
        Some(_) => Cause::Trap,
        None if text.contains("allocated for hostcalls") => Cause::Output,
        None if text.contains("has not been defined") => Cause::Wasi,
        None => Cause::Malformed,
    };
    Failure::new(cause, truncated(&text, MAX_LINE_BYTES))
}

/// What belongs to one call.
struct State {
    meter: Meter,
    lines: Vec<Line>,
}

impl State {
    fn new(bounds: Bounds) -> Self {
        let meter =
            Meter { bytes: bounds.max_memory_bytes, elements: MAX_TABLE_ELEMENTS, is_exceeded: false };
        Self { meter, lines: Vec::new() }
    }
}

impl bindings::docket::redaction::types::Host for State {}

impl bindings::docket::redaction::log::Host for State {
    fn log(&mut self, level: bindings::docket::redaction::log::Level, message: String) {
        use bindings::docket::redaction::log::Level;
        if self.lines.len() < MAX_LINES {
            let level = match level {
                Level::Debug => tracing::Level::DEBUG,
                Level::Info => tracing::Level::INFO,
                Level::Warn => tracing::Level::WARN,
                Level::Error => tracing::Level::ERROR,
            };
            self.lines.push(Line { level, message: truncated(&message, MAX_LINE_BYTES).into() });
        }
    }
}

/// Counts down what is left to grow by, over all memories and tables of a call. To ask for more ends the call: a guest that
/// went on with less would answer with less.
struct Meter {
    bytes: usize,
    elements: usize,
    is_exceeded: bool,
}

impl Meter {
    fn take(left: &mut usize, current: usize, desired: usize) -> bool {
        match left.checked_sub(desired.saturating_sub(current)) {
            Some(rest) => {
                *left = rest;
                true
            }
            None => false,
        }
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if Self::take(&mut self.bytes, current, desired) {
            return Ok(true);
        }
        self.is_exceeded = true;
        Err(wasmtime::format_err!("it wants {desired} bytes of memory"))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if Self::take(&mut self.elements, current, desired) {
            return Ok(true);
        }
        self.is_exceeded = true;
        Err(wasmtime::format_err!("it wants a table of {desired} elements"))
    }

    fn instances(&self) -> usize {
        MAX_INSTANCES
    }

    fn tables(&self) -> usize {
        MAX_INSTANCES
    }

    fn memories(&self) -> usize {
        MAX_INSTANCES
    }
}
