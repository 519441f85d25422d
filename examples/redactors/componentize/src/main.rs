//! `componentize WIT_DIR CORE.wasm COMPONENT.wasm`: wraps a core module that exports the world of `WIT_DIR` as a
//! component. It does what `wasm-tools component embed` and `wasm-tools component new` do, with the same library; it
//! exists because it builds in half a minute where `cargo install wasm-tools` takes four, and because a pinned encoder makes the
//! same bytes everywhere.

use std::env;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [wit, core, component] = arguments.as_slice() else {
        bail!("usage: componentize WIT_DIR CORE.wasm COMPONENT.wasm");
    };
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(Path::new(wit)).with_context(|| format!("cannot read `{wit}`"))?;
    let world = resolve.select_world(&[package], None)?;
    let mut module = fs::read(core).with_context(|| format!("cannot read `{core}`"))?;
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    let bytes = ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .and_then(|mut encoder| encoder.encode())
        .with_context(|| format!("`{core}` does not fit the world of `{wit}`"))?;
    fs::write(component, bytes).with_context(|| format!("cannot write `{component}`"))
}
