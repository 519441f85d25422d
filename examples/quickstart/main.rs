//! docket's main job in one run: `cargo run --release --example quickstart` (`-- --keep` leaves it running).
//!
//! Starts docket in a temporary folder, with the starter policies, in front of a small real MCP server, and drives it with
//! a real MCP client: a call that is allowed, one that is denied, one that carries a secret. Then shows what `docket tail`
//! and `docket explain` make of it.

use std::path::Path;

use anyhow::Context as _;
use clap::Parser as _;
use docket::cli::{self, Cli};
use docket::config::{Flags, Raw};
use docket::ledger::Filter;
use rmcp::ServiceExt as _;
use rmcp::model::{CallToolRequestParams, CallToolResult};
use rmcp::transport::StreamableHttpClientTransport;
use serde_json::{Value, json};

mod server;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let keep = std::env::args().any(|argument| argument == "--keep");
    let folder = tempfile::Builder::new().prefix("docket-quickstart-").tempdir()?;
    let upstream = server::serve().await?;
    let file = folder.path().join("docket.toml");
    std::fs::write(&file, configuration(folder.path(), upstream, if keep { 7410 } else { 0 }))?;
    let running =
        cli::start(Raw::read(Some(&file), &Flags::default())?.validate()?, cli::system_clock()).await?;
    println!("An MCP server listens on {upstream}; docket stands in front of it on {}.\n", running.data);

    let url = format!("http://{}/mcp/demo", running.data);
    let client =
        ().serve(StreamableHttpClientTransport::from_uri(url.clone()))
            .await
            .context("cannot connect through docket")?;
    let call = async |title: &str, tool: &'static str, arguments: Value| -> anyhow::Result<CallToolResult> {
        println!("── {title}\n   tools/call {tool} {arguments}");
        let arguments = arguments.as_object().cloned().unwrap_or_default();
        let result = client.call_tool(CallToolRequestParams::new(tool).with_arguments(arguments)).await?;
        for text in result.content.iter().filter_map(|content| content.as_text()) {
            println!("   → {}", text.text.replace('\n', "\n     "));
        }
        println!();
        Ok(result)
    };
    call("An allowed call", "read_file", json!({"path": "/workspace/notes.txt"})).await?;
    let denied = call("A denied call", "read_file", json!({"path": "/workspace/.ssh/id_ed25519"})).await?;
    let secret = json!({"message": "deploy with token ghp_16C7e42F292c6912E7710c838347Ae178B4a"});
    call("A call that carries a secret", "echo", secret).await?;
    let newest = Filter { limit: Some(1), ..Filter::default().decisions() };
    let carried = running.gate().ledger.reader().entries(&newest)?.pop().and_then(|entry| entry.request_id);
    let request_id = denied
        .meta
        .as_ref()
        .and_then(|meta| meta.get("docket/request_id")?.as_str())
        .context("the refusal carries no request id")?
        .to_owned();
    client.cancel().await?;

    let admin = format!("http://{}", running.admin);
    let token = std::fs::read_to_string(folder.path().join("admin.token"))?.trim().to_owned();
    let remote = ["--url", &admin, "--token", &token];
    println!("── docket tail\n");
    command(&["tail", "-n", "5"], &remote)?;
    println!("\n── docket explain {request_id}\n");
    command(&["explain", &request_id], &remote)?;
    let carried = carried.context("the call with a secret was not recorded")?;
    println!("\n── docket explain {carried}: the server got the secret, the ledger did not\n");
    command(&["explain", &carried], &remote)?;

    println!("\n── Point your own client at docket\n");
    println!("   docket serve --config docket.toml      # with a [servers.NAME] table and its url");
    println!("   {{\"mcpServers\": {{\"demo\": {{\"type\": \"http\", \"url\": \"{url}\"}}}}}}");
    if keep {
        println!("\ndocket keeps running (Ctrl-C ends it). In another terminal:\n");
        println!("   export DOCKET_URL={admin} DOCKET_TOKEN={token}");
        println!("   docket tail -f");
        tokio::signal::ctrl_c().await?;
    }
    running.stop().await;
    Ok(())
}

fn configuration(folder: &Path, upstream: std::net::SocketAddr, port: u16) -> String {
    let admin = if port == 0 { 0 } else { port + 1 };
    format!(
        "[data]\nlisten = \"127.0.0.1:{port}\"\n\n[admin]\nlisten = \"127.0.0.1:{admin}\"\n\n\
         [ledger]\npath = \"{}/docket.db\"\n\n[policy]\npath = \"{}/policies\"\n\n\
         [servers.demo]\nurl = \"http://{upstream}/mcp\"\n",
        folder.display(),
        env!("CARGO_MANIFEST_DIR"),
    )
}

/// Runs a docket command in this process, as the shell would.
fn command(arguments: &[&str], remote: &[&str]) -> anyhow::Result<()> {
    let cli = Cli::try_parse_from(["docket"].iter().chain(arguments).chain(remote))?;
    // Commands bring a runtime of their own, so each gets a thread of its own.
    std::thread::spawn(move || cli::run(cli)).join().map_err(|_| anyhow::anyhow!("the command failed"))?;
    Ok(())
}
