//! A small real MCP server (rmcp) with a handful of files that exist only in its memory.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{CallToolResult, ContentBlock, ServerCapabilities, ServerConfig};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, ServerHandler, schemars, tool, tool_handler, tool_router};
use tokio::net::TcpListener;

/// Arguments of `echo`.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
pub struct Echo {
    /// What to say back.
    message: String,
}

/// Arguments of the file tools.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
pub struct File {
    /// An absolute path.
    path: String,
}

/// Arguments of `sleep`.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
pub struct Sleep {
    /// How long, in milliseconds.
    ms: u64,
}

/// The server: it would do anything it is asked to.
#[derive(Clone, Copy, Debug)]
pub struct Demo;

#[tool_router]
impl Demo {
    #[tool(description = "Says back what it is told")]
    fn echo(&self, Parameters(Echo { message }): Parameters<Echo>) -> String {
        message
    }

    #[tool(description = "Reads a file")]
    fn read_file(&self, Parameters(File { path }): Parameters<File>) -> Result<CallToolResult, ErrorData> {
        Ok(match path.as_str() {
            "/workspace/notes.txt" => CallToolResult::success(vec![ContentBlock::text("Buy milk.")]),
            _ => CallToolResult::error(vec![ContentBlock::text(format!("no such file: {path}"))]),
        })
    }

    #[tool(description = "Deletes a file")]
    fn delete_file(&self, Parameters(File { path }): Parameters<File>) -> String {
        format!("{path} is gone")
    }

    #[tool(description = "Answers late")]
    async fn sleep(&self, Parameters(Sleep { ms }): Parameters<Sleep>) -> String {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        format!("slept {ms} ms")
    }
}

#[tool_handler]
impl ServerHandler for Demo {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }
}

/// Serves it on a free port of the loopback interface, for as long as the process lives.
pub async fn serve() -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let service = StreamableHttpService::new(
        || Ok(Demo),
        Arc::new(LocalSessionManager::default()),
        StreamableHttpServerConfig::default(),
    );
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                let connection = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                // A client that hangs up ends its connection, and nothing else.
                let _ = connection.serve_connection(TokioIo::new(stream), service).await;
            });
        }
        Ok::<(), Infallible>(())
    });
    Ok(address)
}
