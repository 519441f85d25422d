//! `docket prove`: an evidence bundle, a ZIP file that proves itself to somebody who has only the ledger's public key.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::{EXIT_NOT_FOUND, checkpoint, open, system_clock};
use crate::config::{Flags, Raw};
use crate::files::OWNER_ONLY;
use crate::ledger::bundle::{self, Bundle, Files, Selection};
use crate::ledger::filter::parse_time;

/// Bytes of one file of a bundle that are read at most: a stranger may have made it.
const MAX_FILE_BYTES: u64 = 512 * 1024 * 1024;

/// How every ZIP file begins that has something in it.
const ZIP_MAGIC: &[u8; 4] = b"PK\x03\x04";

/// Files of a bundle that are read at most.
const MAX_FILES: usize = 10_000;

/// Arguments of `docket prove`.
#[derive(Debug, Args)]
pub struct Prove {
    /// The request whose entries are to be proved, with everything recorded between them.
    #[arg(required_unless_present = "since")]
    request_id: Option<String>,
    /// Everything from this time on: RFC 3339, a date, or how long ago (`15m`, `24h`, `7d`).
    #[arg(long, value_name = "TIME", conflicts_with = "request_id")]
    since: Option<String>,
    /// The bundle to write, in place of an older one. It is readable to its owner only.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Parts of entries to disclose, as `arguments,diagnostics`; all others stay commitments.
    #[arg(long, value_name = "PARTS", value_delimiter = ',')]
    disclose: Vec<String>,
    /// The ledger file [default: the configured one]. A running docket is not disturbed.
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// The configuration to take the ledger's path from [default: ./docket.toml if present].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Prove {
    /// Runs the command.
    ///
    /// # Errors
    /// The ledger cannot be read, a part does not exist, or the bundle cannot be written.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        bundle::parts(&self.disclose).map_err(anyhow::Error::msg)?;
        may_write(&self.out)?;
        let (ledger, key_file) = if let Some(ledger) = self.ledger {
            (ledger, None)
        } else {
            let configured = Raw::read(self.config.as_deref(), &Flags::default())?.validate()?.ledger;
            (configured.path, configured.key_file)
        };
        let selection = match (self.request_id, self.since) {
            (Some(id), _) => Selection::Request(id),
            (None, Some(since)) => {
                Selection::Since(parse_time(&since, (system_clock().now_ms)()).map_err(anyhow::Error::msg)?)
            }
            (None, None) => bail!("name a request id, or --since"),
        };
        let reader = open(&ledger)?;
        let key = checkpoint::of_file(&ledger, key_file.as_deref(), &reader)?;
        let Some(Bundle { files, gone }) = reader.bundle(&selection, &self.disclose, &key)? else {
            eprintln!("docket: no entry matches; `docket tail` lists the newest ones");
            return Ok(ExitCode::from(EXIT_NOT_FOUND));
        };
        write(&self.out, &files)
            .with_context(|| format!("bundle `{}` cannot be written", self.out.display()))?;
        eprintln!(
            "docket: wrote `{}`; check it with `docket verify --bundle` and the key {key}",
            self.out.display()
        );
        if !gone.is_nothing() {
            eprintln!("docket: {gone}; `removed.jsonl` in it names the entries");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Refuses to write over anything but an older bundle: a ledger or its key is not what somebody means to replace.
fn may_write(out: &Path) -> anyhow::Result<()> {
    let mut head = [0; ZIP_MAGIC.len()];
    match File::open(out).and_then(|mut file| file.read_exact(&mut head)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Ok(()) if head == *ZIP_MAGIC => Ok(()),
        _ => bail!("`{}` exists and is no bundle; name another file", out.display()),
    }
}

/// Parts of it are disclosed to whom it is given, not to everybody on the machine.
fn write(out: &Path, files: &Files) -> anyhow::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(OWNER_ONLY).open(out)?;
    let mut zip = ZipWriter::new(file);
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, bytes) in files {
        zip.start_file(name.as_str(), options.large_file(bytes.len() as u64 > u64::from(u32::MAX)))?;
        zip.write_all(bytes)?;
    }
    zip.finish()?.sync_all()?;
    Ok(())
}

/// Reads a bundle.
pub fn read(bundle: &Path) -> anyhow::Result<Files> {
    let context = || format!("bundle `{}` cannot be read", bundle.display());
    let mut zip = ZipArchive::new(File::open(bundle).with_context(context)?).with_context(context)?;
    if zip.len() > MAX_FILES {
        bail!("bundle `{}` has more than {MAX_FILES} files", bundle.display());
    }
    let mut files = Files::new();
    for number in 0..zip.len() {
        let file = zip.by_index(number).with_context(context)?;
        let name = file.name().with_context(context)?.into_owned();
        let mut bytes = Vec::new();
        file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).with_context(context)?;
        if bytes.len() as u64 == MAX_FILE_BYTES || files.insert(name.clone(), bytes).is_some() {
            bail!("file `{name}` of bundle `{}` is too large, or is there twice", bundle.display());
        }
    }
    Ok(files)
}
